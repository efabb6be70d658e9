// The shell: addresses, login, rail, connection, keyboard, messages.

import {
  html, render, session, request, get, send, feed, useAddress, useFeedState, useNow, useState, useEffect, useRef, useLayoutEffect,
  clock, ZONE, KEYS, keyed, href, go, messages, Failure, Dialog, Problem,
} from "./kit.js";
import { Form } from "./form.js";
import { Pools } from "./pools.js";
import { Run } from "./run.js";
import { Runs } from "./runs.js";
import { Schedules } from "./schedules.js";
import { System } from "./system.js";
import { Task } from "./task.js";
import { Workflow } from "./workflow.js";
import { Workflows } from "./workflows.js";

// -- addresses --------------------------------------------------------------------------------------------------------

/** Return the parts and the query of an address: `#/r/ID/table?state=FAILED`. */
function routeOf(address) {
  const [path, query = ""] = address.replace(/^#\/?/, "").split("?");
  const parts = path.split("/").filter(Boolean).map(part => {
    try { return decodeURIComponent(part); } catch { return part; }
  });
  return { parts, query: Object.fromEntries(new URLSearchParams(query)) };
}

/** Return the name of a page, its properties, and the entry of the rail that it belongs to. */
function pageOf({ parts: [first, name, ...rest], query }) {
  if (first == null) return ["workflows", {}, "workflows"];
  if (first === "w" && name && rest[0] === "run") return ["form", { name, query }, "workflows"];
  if (first === "w" && name) return ["workflow", { name, tab: rest[0], query }, "workflows"];
  if (first === "runs") return ["runs", { query }, "runs"];
  if (first === "r" && rest[0] === "t" && rest[1])
    return ["task", { id: name, task: rest[1], index: rest[2] ?? null, query }, "runs"];
  if (first === "r" && name) return ["run", { id: name, tab: rest[0], query }, "runs"];
  if (["schedules", "pools", "system"].includes(first)) return [first, {}, first];
  return [null, {}, ""];
}

const RAIL = [
  ["workflows", [], "Workflows", "w", "M2 8h4l3-4h5M6 8l3 4h5"],
  ["runs", ["runs"], "Runs", "r", "M2 3h12M2 8h12M2 13h8"],
  ["schedules", ["schedules"], "Schedules", "s", "M8 2a6 6 0 1 1 0 12A6 6 0 1 1 8 2m0 2.5V8l2.5 1.5"],
  ["pools", ["pools"], "Pools", "p", "M2.5 3h4v4h-4zm7 0h4v4h-4zm-7 6h4v4h-4zm7 0h4v4h-4z"],
  ["system", ["system"], "System", "y", "M2 3h12v8H2zm4 10.5h4M8 11v2.5"],
];

const Icon = ({ path }) => html`<svg class="icon" viewBox="0 0 16 16" aria-hidden="true"><path d=${path} /></svg>`;

// -- login ------------------------------------------------------------------------------------------------------------

/** Trade the one-time code of the address for the token, and take the code out of the address. */
async function redeem() {
  const match = location.hash.match(/^#(?:\/)?code=([\w.~-]+)$/);
  if (!match) return null;
  location.replace("#/");
  try {
    const answer = await send("POST", "login", { code: match[1] }, { token: null });
    session.set(answer.token, answer.role);
    return null;
  } catch (problem) {
    return problem;
  }
}

const Login = ({ first, onDone }) => {
  const [problem, set] = useState(first);
  const submit = async event => {
    event.preventDefault();
    const token = new FormData(event.target).get("token").trim();
    try {
      const answer = await (await request("whoami", { token })).json();
      session.set(token, answer.role);
      onDone();
    } catch (error) {
      set(error.status === 401 ? new Problem(401, { detail: "The server does not have this token." }) : error);
    }
  };
  return html`<main class="login" id="main"><h1>Lightflow</h1>
    <p>This page needs the token of the server. It stays in this tab.</p>
    <form onSubmit=${submit}>
      <label>Token <input name="token" type="password" autocomplete="off" required autofocus aria-invalid=${problem != null} /></label>
      <button type="submit" class="primary">Open</button>
    </form>
    <${Failure} problem=${problem} />
    <p class="muted"><code>lightflow token</code> prints it, in the folder of the server.</p></main>`;
};

// -- the parts of the shell -------------------------------------------------------------------------------------------

const Connection = () => {
  const [state, lostAt] = useFeedState();
  const now = useNow(state === "lost");
  const words = state === "lost" ? `lost ${Math.max(0, Math.floor((now - lostAt) / 1000))} s ago` : state === "unread" ? "no state file" : state;
  return html`<span class=${`connection ${state === "unread" ? "lost" : state}`} title="The connection to the server"><i aria-hidden="true"></i>${words}</span>`;
};

const LostBar = () => {
  const [state, lostAt, problem] = useFeedState();
  const now = useNow(state === "lost");
  if (problem) return html`<div class="lost" role="status">${problem}. This page shows what it had.</div>`;
  const seconds = Math.floor((now - lostAt) / 1000);
  if (state !== "lost" || seconds < 2) return null;
  return html`<div class="lost" role="status">The server has not answered for ${seconds} s. This page shows what it had; runs
    continue without the server (<code>lightflow status</code>). It tries again.</div>`;
};

const Clock = () => {
  const now = useNow();
  return html`<span class="clock" title=${new Date(now).toISOString()}>${ZONE} ${clock(now)}</span>`;
};

const THEMES = { system: "light", light: "dark", dark: "system" };
const Theme = () => {
  const [theme, set] = useState(localStorage.getItem("lightflow-theme") || "system");
  useLayoutEffect(() => {
    if (theme === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    localStorage.setItem("lightflow-theme", theme);
  }, [theme]);
  return html`<button type="button" class="quiet theme" onClick=${() => set(THEMES[theme])}
    ...${keyed("colours", `Colours: ${theme}. Click for ${THEMES[theme]}.`)}>
    <span aria-hidden="true">${{ system: "◐", light: "○", dark: "●" }[theme]}</span><span class="hidden">Colours: ${theme}</span></button>`;
};

/** The keys that are no action of a control: they move. */
const MOVES = [["j k", "next, previous row"], ["1 … 9", "views of the page"], ["arrows", "cells, rows, tasks along the edges of a graph"], ["Home End", "first, last"]];
const Help = ({ onClose }) => html`<${Dialog} title="Keys" onClose=${onClose}><dl class="keys">${[
  ...RAIL.map(([, , label, key]) => [`g ${key}`, label]), ...MOVES, ...Object.values(KEYS)].map(([keys, text]) =>
  html`<div key=${text}><dt>${keys.split(" ").map(key => html`<kbd>${key}</kbd>`)}</dt><dd>${text}</dd></div>`)}</dl>
  <p class="muted">Each key has a button or a link on its page; what a row offers, its key does while the row has the focus.</p><//>`;

const Messages = () => {
  const [notes, set] = useState([]), [spoken, speak] = useState("");
  useEffect(() => {
    let next = 1;
    messages.announce = text => speak(old => old === text ? `${text}\u00a0` : text);
    messages.notify = note => {
      const id = next++;
      set(list => [...list.slice(-3), { ...note, id }]);
      setTimeout(() => set(list => list.filter(each => each.id !== id)), note.tone === "bad" ? 12000 : 5000);
    };
  }, []);
  return html`<div class="hidden" aria-live="polite" id="spoken">${spoken}</div>
    <div class="notes" role="status">${notes.map(note => html`<p key=${note.id} class=${`note ${note.tone}`}>
      ${note.title && html`<b>${note.title}</b> `}${note.text}
      <button type="button" class="quiet" aria-label="Close" onClick=${() => set(list => list.filter(each => each !== note))}>✕</button></p>`)}</div>`;
};

// -- keyboard ---------------------------------------------------------------------------------------------------------
// A key clicks the element with its `data-key`, so that each key has a visible control. Rows are `[data-row]`.

const isTyping = target => target.closest?.("input:not([type=checkbox]), textarea, select, [contenteditable]");

function moveRow(step) {
  const rows = [...document.querySelectorAll("main [data-row]")].filter(row => row.offsetParent !== null);
  if (!rows.length) return;
  const current = rows.findIndex(row => row.contains(document.activeElement));
  const target = rows[Math.max(0, Math.min(rows.length - 1, current < 0 ? (step > 0 ? 0 : rows.length - 1) : current + step))];
  (target.querySelector("a, button") || target).focus();
  target.scrollIntoView({ block: "nearest" });
}

/** Return the control of a key: of the row with the focus, else one that is in no row. */
function controlOf(key) {
  const controls = [...document.querySelectorAll("[data-key]")].filter(each => each.dataset.key === key && !each.disabled && each.offsetParent);
  const row = document.activeElement?.closest("[data-row]");
  return controls.find(each => row?.contains(each)) || controls.find(each => !each.closest("[data-row]"));
}

function listen() {
  let pending = 0;
  const onKey = event => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    const { key } = event, dialog = document.querySelector("dialog[open]");
    if (isTyping(event.target)) { if (key === "Escape") event.target.blur(); return; }
    if (dialog) return;
    if (pending) {
      clearTimeout(pending);
      pending = 0;
      const entry = RAIL.find(each => each[3] === key);
      if (entry) { event.preventDefault(); go(href(entry[1])); return; }
    }
    if (key === "g") pending = setTimeout(() => { pending = 0; }, 1200);
    else if (key === "j" || key === "k") { event.preventDefault(); moveRow(key === "j" ? 1 : -1); }
    else if (key === "/") {
      const filter = document.querySelector("[data-filter]");
      if (filter) { event.preventDefault(); filter.focus(); filter.select(); }
    } else {
      const control = /^[1-9]$/.test(key) ? document.querySelector(`main nav.tabs > :nth-child(${key})`) : controlOf(key);
      if (control) { event.preventDefault(); control.click(); if (key !== "Escape") control.focus?.(); }
    }
  };
  addEventListener("keydown", onKey);
  return () => removeEventListener("keydown", onKey);
}

// -- the application --------------------------------------------------------------------------------------------------

const PAGES = {
  workflows: Workflows, workflow: Workflow, form: Form, runs: Runs, run: Run, task: Task, schedules: Schedules, pools: Pools, system: System,
};

const Page = ({ current }) => {
  const [name, props] = pageOf(current);
  const key = `${name} ${props.id || props.name || ""} ${props.task || ""} ${props.index ?? ""}`;
  useEffect(() => { scrollTo(0, 0); }, [key]);
  if (name == null) return html`<h1>No such page</h1><p><a href="#/">All workflows</a></p>`;
  return html`<${PAGES[name]} key=${key} ...${props} />`;
};

const App = ({ firstProblem }) => {
  const address = useAddress(), current = routeOf(address), [hasToken, setToken] = useState(session.token != null);
  const [helps, showHelp] = useState(false), main = useRef();
  useLayoutEffect(() => { redeem().then(() => setToken(session.token != null)); }, [address]);
  useLayoutEffect(() => {
    session.onEnd = () => setToken(false);
    feed.onToken = message => { session.set(message.token, message.role); setToken(true); };
    if (!session.token) feed.tell({ kind: "token?" }); // another tab of this browser has it
    return listen();
  }, []);
  useEffect(() => {
    if (!hasToken) return;
    feed.start();
    if (!session.role) get("whoami").then(answer => session.set(session.token, answer.role), () => {});
  }, [hasToken]);
  useEffect(() => { document.title = ["Lightflow", ...current.parts.slice(1, 2)].reverse().join(" · "); }, [address]);
  if (!hasToken) return html`<${Login} first=${firstProblem} onDone=${() => setToken(true)} /><${Messages} />`;
  const entry = pageOf(current)[2];
  return html`
    <a class="skip" href="#main" onClick=${event => { event.preventDefault(); main.current.focus(); }}>Skip to the content</a>
    <header class="top"><a class="brand" href="#/">lightflow</a><span class="grow"></span><${Clock} /><${Connection} /><${Theme} />
      <button type="button" class="quiet" onClick=${() => showHelp(true)} aria-label="Keys" ...${keyed("help")}>?</button></header>
    <nav class="rail" aria-label="Pages">${RAIL.map(([name, parts, label, key, path]) => html`
      <a key=${name} href=${href(parts)} aria-current=${entry === name ? "page" : undefined} title="${label} (g ${key})">
        <${Icon} path=${path} /><span>${label}</span></a>`)}</nav>
    <main id="main" tabindex="-1" ref=${main}><${LostBar} /><${Page} current=${current} /></main>
    ${helps && html`<${Help} onClose=${() => showHelp(false)} />`}
    <${Messages} />`;
};

redeem().then(problem => render(html`<${App} firstProblem=${problem} />`, document.getElementById("app")));
