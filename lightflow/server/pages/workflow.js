// A workflow: its tasks in its last runs, its graph, its triggers, its file.

import {
  html, useLive, usePolled, useReread, useState, href, go, State, Unread, Waiting, Empty, session, moment, encode, keyed,
} from "./kit.js";
import { useGroups } from "./folds.js";
import { GraphView } from "./graph.js";
import { Grid } from "./grid.js";
import { Next, Pause, applyRuns } from "./workflows.js";
import { TriggerTable } from "./schedules.js";

const WORKFLOW_TABS = [["grid", "Grid"], ["graph", "Graph"], ["triggers", "Triggers"], ["source", "Source"]];

/** The states of the tasks in the last runs: a column a run, a row a task. */
const GridTab = ({ name }) => {
  const [count, setCount] = useState(25);
  const live = usePolled(`workflows/${encode(name)}/grid?runs=${count}`, 300);
  const durations = useLive(`workflows/${encode(name)}/durations?runs=50`);
  const newest = live.data?.runs[0]?.run_id, groups = useGroups(newest), critical = useReread(newest && `runs/${encode(newest)}/critical-path`, live.data).data;
  if (!live.data || !groups) return html`<${Unread} live=${live} />`;
  const { tasks, runs, failures } = live.data;
  if (!runs.length) return html`<${Empty} title="It has not run yet">${session.mayAct && html`<p><a class="button primary" href=${href(["w", name, "run"])}>Run…</a></p>`}<//>`;
  const medians = new Map((durations.data?.tasks || []).map(each => [each.task, each]));
  const ordered = [...runs].reverse();
  return html`<div class="gridbox"><${Grid} runs=${ordered} tasks=${tasks} cells=${ordered.map(run => run.states)} medians=${medians} failures=${new Map(tasks.map((task, at) => [task, failures[at]]))} critical=${critical?.tasks} groups=${groups}
      onSelect=${(run, task) => go(task == null ? href(["r", run]) : href(["r", run, "t", task]))} /></div>
    <p>${live.data.after && count < 100 && html`<button type="button" ...${keyed("more")} onClick=${() => setCount(Math.min(100, count + 25))}>More runs</button>`}
      <a class="button quiet" href=${href(["runs"], { workflow: name })}>All runs as a list</a></p>`;
};

/** The graph of the file; of a Python file, which is not executed for a picture, that of the latest run. */
const GraphTab = ({ workflow, name }) => {
  const run = workflow.latest?.run_id, file = workflow.served?.file;
  if (!run && (!file || file.endsWith(".py"))) return html`<${Empty} title="It has not run yet"><p>The graph appears with its first run. <code>lightflow dag ${file || "flow.yaml"}</code> draws the file.</p><//>`;
  return html`<${GraphView} path=${`workflows/${encode(name)}`} graph=${run} onSelect=${run && (task => go(href(["r", run], { task })))} />`;
};

const Triggers = ({ name, served }) => {
  const live = usePolled("triggers"), fires = usePolled("fires?limit=200");
  const triggers = live.data?.triggers.filter(each => each.workflow === name);
  if (triggers && !triggers.length) return html`<${Empty} title="No triggers"><p>It runs by hand. <code>schedule: "30 2 * * *"</code> in its file starts it each night.</p><//>`;
  if (!live.data) return html`<${Unread} live=${live} />`;
  const past = (fires.data?.fires || []).filter(each => each.trigger.startsWith(`${name}:`)).slice(0, 50);
  return html`<${TriggerTable} triggers=${triggers} withWorkflow=${false} onChange=${() => { live.reload(); fires.reload(); }} />
    <h2 class="gap">Last fires</h2>${!past.length ? html`<p class="muted">None.</p>` : html`<table class="list"><thead><tr><th>State</th><th>For</th><th class="wide">Trigger</th><th>Run</th><th class="wide">Why</th></tr></thead>
      <tbody>${past.map(each => html`<tr key=${each.fire_no} data-row><td><${State} state=${each.status} /></td><td>${moment(each.at || each.due_at)}</td><td class="wide muted">${each.trigger.slice(name.length + 1)}${each.started_by && ` by ${each.started_by}`}</td>
        <td>${each.status === "STARTED" ? html`<a href=${href(["r", each.run_id])}><span class="id">${each.run_id}</span></a>` : ""}</td><td class="wide muted">${each.reason || ""}</td></tr>`)}</tbody></table>`}`;
};

const Source = ({ workflow, name }) => {
  const live = useLive(`workflows/${encode(name)}/source`);
  if (live.problem) return html`<${Empty} title="No file"><p>${live.problem.message}</p><//>`;
  if (!live.data) return html`<${Waiting} />`;
  return html`<p class="muted"><code>${live.data.file}</code> read-only: it changes in your editor, and here when it is saved.</p>
    <pre class="tail source" tabindex="0">${live.data.text}</pre>`;
};

export function Workflow({ name, tab = "grid", query }) {
  const list = useLive(`workflows/${encode(name)}`, "runs", (data, frame) => applyRuns({ workflows: [data] }, frame).workflows[0]);
  if (!list.data) return html`<${Unread} live=${list} />${list.problem && html`<p><a href="#/">All workflows</a></p>`}`;
  const workflow = list.data, served = workflow.served;
  return html`<div class="head"><h1>${name}</h1>${workflow.latest && html`<a class="plain" href=${href(["r", workflow.latest.run_id])}><${State} state=${workflow.latest.status} /></a>`}
      <span><span class="muted">next:</span> <${Next} served=${served} /></span><span class="grow"></span><span class="actions"><${Pause} workflow=${name} served=${served} onDone=${list.reload} />
      ${served && session.mayAct && html`<a class="button primary" ...${keyed("run")} href=${href(["w", name, "run"])}>Run…</a>`}</span></div>
    ${workflow.description && html`<p class="muted">${workflow.description}</p>`}
    ${served?.problem && html`<p class="problem"><span>${served.problem}</span></p>`}
    <div class="bar"><nav class="tabs" aria-label="Views of the workflow">${WORKFLOW_TABS.map(([id, label]) => html`<a key=${id} href=${href(["w", name, id], { fold: query.fold, toggled: query.toggled })} aria-current=${tab === id ? "page" : undefined}>${label}</a>`)}</nav></div>
    ${tab === "grid" && html`<${GridTab} name=${name} />`}${tab === "graph" && html`<${GraphTab} workflow=${workflow} name=${name} />`}
    ${tab === "triggers" && html`<${Triggers} name=${name} served=${served} />`}${tab === "source" && html`<${Source} workflow=${workflow} name=${name} />`}`;
}
