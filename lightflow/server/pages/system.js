// What the server is, and the state of its file.

import { html, usePolled, useLive, href, Failure, Unread, clean, number, size, duration, session, State } from "./kit.js";

const Fact = ({ name, children }) => html`<div><dt>${name}</dt><dd>${children}</dd></div>`;

export function System() {
  const live = usePolled("system", 2000), triggers = useLive("triggers");
  const workflows = useLive("workflows?runs=0");
  if (!live.data) return html`<${Unread} live=${live} />`;
  const system = live.data, broken = workflows.data?.problems || [];
  return html`<div class="head"><h1>System</h1></div><${Failure} problem=${live.problem} retry=${live.reload} />
    ${system.problem && html`<p class="problem"><span>${clean(system.problem)}</span></p>`}
    <dl class="pairs">
      <${Fact} name="Version">Lightflow ${clean(system.version)}<//>
      <${Fact} name="State file"><code>${clean(system.db)}</code> ${size(system.bytes)}${system.wal_bytes ? `, write-ahead log ${size(system.wal_bytes)}` : ""}<//>
      <${Fact} name="Running for">${duration(system.uptime_s)}<//>
      <${Fact} name="Starts runs">${system.starts_runs ? "yes" : "no: it shows a history only"}<//>
      <${Fact} name="Scheduler">${triggers.data?.has_scheduler ? "active" : "none works on this state file: nothing starts by itself"}<//>
      <${Fact} name="You are">${session.role === "operator" ? "an operator: you may start, end and change" : "a viewer: you may look"}${system.read_only ? "; the server is read-only" : ""}<//>
      <${Fact} name="Values">${system.hides_values ? "hidden" : "shown"}<//>
      <${Fact} name="Browsers that follow">${number(system.stream_clients)}<//>
    </dl>
    <h2>Files with problems</h2>
    ${broken.length ? html`<ul class="why">${broken.map(each => html`<li key=${each.file}>${clean(each.problem)}</li>`)}</ul>`
      : html`<p class="muted">None.</p>`}`;
}
