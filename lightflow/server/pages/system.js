// What the server is, and the state of its file.

import { html, usePolled, useLive, Failure, Unread, number, size, duration, session, moment, ZONE, secondsBetween } from "./kit.js";

const Fact = ({ name, children }) => html`<div><dt>${name}</dt><dd>${children}</dd></div>`;
/** Say whose scheduler starts runs by itself. */
const schedulerText = (own, hasAny) => own?.active ? "active: that of this server"
  : hasAny ? "active: that of another process" : "none works on this state file: nothing starts by itself";

/** Return the difference between two clocks in words; empty where it is too small to matter. */
const clockText = seconds => Math.abs(seconds) < 2 ? "" : `; that of this browser is ${duration(Math.abs(seconds))} ${seconds > 0 ? "ahead" : "behind"}`;

export function System() {
  const live = usePolled("system", 2000), workflows = useLive("workflows?runs=0"), triggers = usePolled("triggers", 2000);
  if (!live.data) return html`<${Unread} live=${live} />`;
  const system = live.data, set = system.clock_set_s, broken = [...workflows.data?.problems || [], ...system.scheduler?.failures || []];
  return html`<div class="head"><h1>System</h1></div><${Failure} problem=${live.problem} retry=${live.reload} />
    ${system.problem && html`<p class="problem"><span>${system.problem}</span></p>`}
    <dl class="pairs">
      <${Fact} name="Version">Lightflow ${system.version}, running for ${duration(system.uptime_s)}<//>
      <${Fact} name="State file"><code>${system.db}</code> ${size(system.bytes)}${system.wal_bytes ? `, write-ahead log ${size(system.wal_bytes)}` : ""}<//>
      <${Fact} name="Disk">${size(system.disk_free_bytes)} free<//>
      <${Fact} name="Clock">${moment(system.time)} ${ZONE}${clockText(secondsBetween(system.time, null, live.at))}${Math.abs(set) >= 2 && `; it was set ${set > 0 ? "forward" : "back"} by ${duration(Math.abs(set))} since the server has started`}<//>
      <${Fact} name="Starts runs">${system.starts_runs ? "yes" : "no: it shows a history only"}<//>
      <${Fact} name="Scheduler">${schedulerText(system.scheduler, triggers.data?.has_scheduler)}<//>
      <${Fact} name="You are">${session.role === "operator" ? "an operator: you may start, end and change" : "a viewer: you may look"}${system.read_only ? "; the server is read-only" : ""}<//>
      <${Fact} name="Values">${system.hides_values ? "hidden" : "shown"}<//>
      <${Fact} name="Browsers that follow">${number(system.stream_clients)}<//>
      <${Fact} name="Metrics"><code>/metrics</code>, with the token of this tab<//>
    </dl>
    <h2>Problems of files and of the scheduler</h2>
    ${broken.length ? html`<ul class="why">${broken.map(each => html`<li key=${each.file || each.subject}>${each.problem}</li>`)}</ul>`
      : html`<p class="muted">None.</p>`}`;
}
