// Pools: slots, who holds them, who waits and since when.

import { html, usePolled, href, send, Ago, Failure, Unread, Empty, act, session, number, many, encode } from "./kit.js";
import { Ask } from "./actions.js";

const Resize = ({ pool, onDone }) => {
  const resize = data => {
    const slots = Number(data.get("slots"));
    return act(() => send("PUT", `pools/${encode(pool.pool)}`, { slots }),
      slots ? `${pool.pool} has ${many(slots, "slot")} now.` : `${pool.pool} is paused: no task that needs it starts.`);
  };
  return html`<${Ask} label="Resize…" action="resize" title="Slots of ${pool.pool}" confirm="Resize" run=${data => resize(data).then(answer => { if (answer) onDone(); return answer; })}>
    <label>Slots <input type="number" name="slots" min="0" max="1000000" step="1" required defaultValue=${pool.slots} autofocus /></label>
    <p class="muted">0 pauses the pool: tasks that hold slots continue, no other starts.</p><//>`;
};

const Slots = ({ title, slots }) => slots.length > 0 && html`<div class="slots"><h3>${title}</h3><ul>${slots.map(slot => html`
  <li key=${`${slot.run_id} ${slot.task}`}><a href=${href(["r", slot.run_id], { task: slot.task })}>${slot.task}</a> <span class="id">${slot.run_id}</span>
    <span class="muted"> ${many(slot.slots, "slot")}, <${Ago} at=${slot.since} /></span></li>`)}</ul></div>`;

export function Pools() {
  const live = usePolled("pools");
  if (!live.data) return html`<${Unread} live=${live} />`;
  const pools = live.data.pools;
  return html`<div class="head"><h1>Pools</h1></div><${Failure} problem=${live.problem} retry=${live.reload} />
    ${!pools.length && html`<${Empty} title="No pools"><p>A pool limits how many tasks use something at once, in all runs of this state file:
      <code>lightflow pools set warehouse 2</code>, and <code>pool: warehouse</code> at a task.</p><//>`}
    ${pools.map(pool => html`<section class="card" key=${pool.pool} data-row><div class="head"><h2><span tabindex="-1">${pool.pool}</span></h2>
        <meter min="0" max=${Math.max(pool.slots, 1)} value=${Math.min(pool.used, pool.slots)} aria-label="Used slots"></meter><b>${number(pool.used)} of ${number(pool.slots)} used</b>
        ${pool.slots === 0 && html`<span class="muted">paused</span>`}<span class="muted">${pool.description || ""}</span><span class="grow"></span>
        ${session.mayAct && html`<${Resize} pool=${pool} onDone=${live.reload} />`}</div>
      <div class="columns"><${Slots} title="Hold slots" slots=${pool.holders} /><${Slots} title="Wait" slots=${pool.waiting} /></div>
      ${!pool.holders.length && !pool.waiting.length && html`<p class="muted">Nothing holds a slot, nothing waits.</p>`}</section>`)}`;
}
