// What folds: the tasks of a group, the instances of a mapped task, boxes of the graph. The address has what is folded.

import { html, useAddress, useLive, encode, keyed, combined } from "./kit.js";

const MANY = 200; // tasks; of more, the groups are folded at first
export const NO_GROUPS = [];
const MODES = [["auto", "Automatic"], ["all", "Fold"], ["none", "Unfold"]];

/** Return what is folded, `{fold, toggled}`, and what changes that: `choose(mode)`, `toggle(name)`. */
export function useFolds() {
  const [path, text] = useAddress().split("?"), query = new URLSearchParams(text);
  const fold = query.get("fold") || "auto", toggled = query.get("toggled")?.split(",") || [];
  const change = (mode, names) => {
    query.set("fold", mode);
    if (names.length) query.set("toggled", names); else query.delete("toggled");
    location.replace(`${path || "#/"}?${query}`); // the page before is one step back, however much was folded
  };
  return {
    fold, toggled, choose: mode => change(mode, []),
    toggle: name => change(fold, toggled.includes(name) ? toggled.filter(each => each !== name) : [...toggled, name]),
  };
}

/** The choice between folded and unfolded. */
export const Folding = ({ folds, children }) => html`<p class="folds">${children}<span class="tabs" role="group" aria-label="Folding">${MODES.map(([mode, word]) =>
  html`<button type="button" key=${mode} ...${mode === (folds.fold === "none" ? "all" : "none") ? keyed("fold") : {}} aria-pressed=${folds.fold === mode && !folds.toggled.length} onClick=${() => folds.choose(mode)}>${word}</button>`)}</span></p>`;

/** The button of what folds. */
export const Fold = ({ node, folds, children, ...rest }) => html`<button type="button" class="quiet fold" ...${keyed("fold")} ...${rest} aria-expanded=${node.isOpen} onClick=${() => folds.toggle(node.name)}><span aria-hidden="true">${node.isOpen ? "▾" : "▸"}</span> ${children}</button>`;

/** Return the groups of a run, `{id, group, members}`; undefined before they are read. */
export function useGroups(run, graph) {
  const live = useLive(run && `runs/${encode(run)}/groups`, null, undefined, graph);
  return live.problem || !run ? NO_GROUPS : live.data?.groups;
}

/**
 * Return nodes, `{name, status, children}`, as a tree: a group is in the place of its first member. Each node gets
 * `isOpen`, a group also `counts`, the numbers of its tasks by status.
 *
 * Groups of many tasks are folded at first, and mapped tasks.
 */
export function treeOf(nodes, groups, { fold, toggled }) {
  const parents = new Map(groups.flatMap(({ id, members }) => members.map(name => [name, id])));
  const made = new Map(), tops = [], turned = new Set(toggled);
  const isOpen = (name, atFirst) => (fold === "auto" ? atFirst : fold === "none") !== turned.has(name);
  const around = name => { const list = []; while (parents.has(name) && !list.includes(parents.get(name))) list.push(name = parents.get(name)); return list; };
  const place = (node, [name, ...outer]) => {
    if (name == null) { tops.push(node); return; }
    if (!made.has(name)) {
      made.set(name, { name, children: [], counts: {}, isOpen: isOpen(name, nodes.length <= MANY) });
      place(made.get(name), outer);
    }
    made.get(name).children.push(node);
  };
  for (const node of nodes) {
    if (node.children) node.isOpen = isOpen(node.name, false);
    const groupsAround = around(node.name);
    place(node, groupsAround);
    if (node.status) for (const name of groupsAround) made.get(name).counts[node.status] = (made.get(name).counts[node.status] || 0) + 1;
  }
  for (const group of made.values()) group.status = combined(group.counts);
  return tops;
}
