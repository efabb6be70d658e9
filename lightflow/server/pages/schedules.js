// Schedules and other triggers: a week of past, missed and planned fires, and all triggers with their next instant.

import {
  html, usePolled, useState, useEffect, useNow, get, send, href, State, Instant, Failure, Unread, Empty, Action, act, session,
  moment, clock, ZONE, wordOf, many, number, newKey, encode, keyed, startText,
} from "./kit.js";

const DAY = 86400000;

/** Fire a trigger now; the answer is a state or a sentence. */
export const fireNow = trigger => act(
  () => send("POST", `triggers/${encode(trigger)}/fire`, {}, { key: newKey() }),
  startText);

/** Return entries of a day; many of one trigger in one state are one entry with their number. */
function folded(list) {
  return [...Map.groupBy(list, each => `${each.trigger} ${each.state}`).values()].flatMap(group => group.length > 4 ? [{ ...group[0], count: group.length }] : group)
    .sort((a, b) => a.at.localeCompare(b.at));
}

/** Eight days of a zone: what fired, what was missed, what is planned. */
const Week = ({ fires, planned, now, zone, isRead }) => {
  const dayOf = at => moment(at, { zone }).split(",")[0];
  const days = [...new Set(Array.from({ length: 17 }, (_, half) => dayOf(now + (half / 2 - 3) * DAY)))].slice(0, 8); // a day may have 23 h
  const past = fires.map(fire => ({ ...fire, state: fire.status, at: fire.at || fire.due_at || fire.decided_at })).filter(fire => fire.at);
  const entries = Map.groupBy([...past, ...planned], each => dayOf(each.at));
  return html`<div class="week" role="list" aria-label="A week of fires" aria-busy=${!isRead}>${days.map(day => {
    const all = folded(entries.get(day) || []), shown = all.slice(0, 12);
    return html`<div key=${day} role="listitem" class=${day === dayOf(now) ? "today" : ""}>
      <h3>${day}</h3>${shown.map((each, at) => html`<a key=${at} class=${`fire${each.state ? "" : " planned"}`}
        href=${each.state === "STARTED" ? href(["r", each.run_id]) : undefined} title=${`${each.trigger} ${each.state ? wordOf(each.state) : "planned"} ${each.reason || ""}`}>
        ${each.state ? html`<${State} state=${each.state} small />` : html`<span class="state"><span class="sign" aria-hidden="true">·</span><span class="hidden">planned</span></span>`}
        <span>${each.count > 1 ? `×${number(each.count)}` : moment(each.at, { seconds: false, zone }).split(", ")[1]}</span>
        <span>${each.trigger.split(":")[0]}</span></a>`)}
      ${all.length > 12 && html`<span class="muted">and ${number(all.length - 12)} more</span>`}
      ${isRead && !all.length && html`<span class="muted">–</span>`}</div>`;
  })}</div>`;
};

/** The triggers of all workflows, or of one, as a table; those of several time zones are apart. */
export const TriggerTable = ({ triggers, onChange, withWorkflow = true }) => {
  const zones = [...Map.groupBy(triggers, each => each.timezone || "")].sort(([a], [b]) => a < b ? -1 : 1), now = useNow();
  return html`<table class="list"><thead><tr><th>State</th>${withWorkflow && html`<th>Workflow</th>`}
    <th>Trigger</th><th>Next</th><th class="acts"><span class="hidden">Actions</span></th></tr></thead>${zones.map(([zone, list]) => html`<tbody key=${zone}>${zones.length > 1 && html`<tr><th colspan="5" scope="rowgroup">${zone ? `${zone}, now ${clock(now, zone)}` : "without a time zone"}</th></tr>`}${list.map(each => html`<tr key=${each.trigger} data-row>
    <td>${each.state === "problem" ? html`<${State} state="FAILED" small /> broken` : each.state === "paused" ? html`<span class="muted" title=${each.paused_by || ""}>paused</span>` : "active"}</td>
    ${withWorkflow && html`<td class="name"><a href=${href(["w", each.workflow, "triggers"])}>${each.workflow}</a></td>`}
    <td>${each.words}${each.problem && html`<br /><span class="bad">${each.problem}</span>`}${each.paused_by && html` <span class="muted wide">paused by ${each.paused_by}</span>`}</td>
    <td>${each.next_at && each.state === "active" ? html`<${Instant} at=${each.next_at} zone=${each.timezone} />` : html`<span class="muted">–</span>`}</td>
    <td class="acts">${session.mayAct && html`<${Action} ...${keyed("pause")} run=${() => pauseTrigger(each).then(onChange)}>${each.state === "paused" ? "Continue" : "Pause"}<//>
      <${Action} ...${keyed("fire")} run=${() => fireNow(each.trigger).then(onChange)}>Fire now<//>`}</td></tr>`)}</tbody>`)}</table>`;
};

const pauseTrigger = each => act(() => send(each.state === "paused" ? "DELETE" : "PUT", `triggers/${encode(each.trigger)}/pause`, {}),
  each.state === "paused" ? "It continues; what was due during the pause does not run." : "It is paused.");

export function Schedules() {
  const triggers = usePolled("triggers"), fires = usePolled("fires?limit=300");
  const now = useNow(), [planned, setPlanned] = useState(null), [zone, setZone] = useState(ZONE);
  const ids = triggers.data?.triggers.filter(each => each.kind === "schedule" && each.state === "active").map(each => each.trigger).join("\n");
  useEffect(() => {
    if (ids == null) return undefined;
    const abort = new AbortController();
    const end = Date.now() + 5 * DAY;
    Promise.all(ids.split("\n").filter(Boolean).slice(0, 50).map(trigger => get(`triggers/${encode(trigger)}/next?limit=500`, { signal: abort.signal })
      .then(answer => answer.instants.filter(each => Date.parse(each.at) < end).map(each => ({ ...each, trigger })), () => [])))
      .then(lists => { if (!abort.signal.aborted) setPlanned(lists.flat()); });
    return () => abort.abort();
  }, [ids, new Date(now).getMinutes() === 0]);
  if (!triggers.data) return html`<${Unread} live=${triggers} />`;
  const list = triggers.data.triggers, reload = () => { triggers.reload(); fires.reload(); };
  const past = (fires.data?.fires || []).filter(each => !each.trigger.endsWith(":manual"));
  return html`<div class="head"><h1>Schedules</h1><label class="muted">times of <select value=${zone} onChange=${event => setZone(event.target.value)}>
        ${[...new Set([ZONE, "UTC", ...list.map(each => each.timezone).filter(Boolean)])].map(each => html`<option key=${each} value=${each}>${each === ZONE ? `${each} (this browser)` : each}</option>`)}</select></label><span class="grow"></span>
      ${!triggers.data.has_scheduler && html`<span class="problem">No scheduler works on this state file: nothing starts by itself. <code>lightflow serve</code> starts one.</span>`}</div>
    <${Failure} problem=${triggers.problem || fires.problem} retry=${reload} />
    ${!list.length ? html`<${Empty} title="No triggers"><p>Write <code>schedule: "30 2 * * *"</code> or <code>on:</code> in a workflow file that <code>lightflow serve</code> serves.</p><//>`
      : html`<${Week} fires=${past} planned=${planned || []} now=${now} zone=${zone} isRead=${planned && fires.data} /><${TriggerTable} triggers=${list} onChange=${reload} />`}
    ${past.some(each => each.status === "MISSED") && html`<h2>Missed</h2><ul class="why">${past.filter(each => each.status === "MISSED").slice(0, 20).map(each => html`<li key=${each.fire_no}>
      ${each.trigger} · ${moment(each.at)} <span class="muted">${each.reason || ""}</span></li>`)}</ul>`}`;
}
