// What a person can do with a run and its tasks. Each action answers with a state or a sentence.

import {
  html, useState, useEffect, useLive, send, href, go, State, Failure, Unread, Dialog, Copy, act, session, many, number,
  instanceName, taskPath, ACTIVE, ENDED, newKey, startText, shorten, encode, keyed, textOf,
} from "./kit.js";
import { Field, defaultText } from "./form.js";

/** A button whose dialog asks before it acts. `run` returns the answer; the dialog ends when there is one. */
export const Ask = ({ label, title, confirm, run, action, tone = "", children, disabled }) => {
  const [open, set] = useState(false), [busy, setBusy] = useState(false);
  const submit = async event => {
    event.preventDefault();
    setBusy(true);
    try { if (await run(new FormData(event.target)) !== undefined) set(false); } finally { setBusy(false); }
  };
  return html`<button type="button" class=${tone} ...${keyed(action)} disabled=${disabled} onClick=${() => set(true)}>${label}</button>
    ${open && html`<${Dialog} title=${title} onClose=${() => set(false)}><form onSubmit=${submit}>${children}
      <footer><button type="button" onClick=${() => set(false)}>Leave it</button>
        <button type="submit" class=${tone || "primary"} disabled=${busy} autofocus>${confirm}</button></footer></form><//>`}`;
};

const Names = ({ names, most = 12 }) => html`<ul class="names">${names.slice(0, most).map(name => html`<li key=${name}><code>${name}</code></li>`)}
  ${names.length > most && html`<li class="muted">and ${number(names.length - most)} more</li>`}</ul>`;

/** Which tasks would run again, and which keep their results: said before it is done. */
const Preview = ({ run, tasks, only = false }) => {
  const query = [...tasks.map(task => `task=${encode(task)}`), `only=${only}`].join("&");
  const live = useLive(`runs/${encode(run)}/rerun?${query}`);
  if (!live.data) return html`<${Unread} live=${live} />`;
  const { runs, stay } = live.data;
  return html`<p><b>${many(runs.length, "task")}</b> ${runs.length === 1 ? "runs" : "run"} again:</p><${Names} names=${runs} />
    <p class="muted">${many(stay.length, "task")} ${stay.length === 1 ? "keeps its result" : "keep their results"}.</p>`;
};

/** Cancel a run; a second request ends its teardowns and hooks, too. */
const Cancel = ({ run }) => {
  const [sent, set] = useState(false), asked = sent || run.request?.action === "cancel";
  const cancel = async () => {
    const answer = await act(() => send("POST", `runs/${encode(run.run_id)}/cancel`),
      asked ? "The run ends at once." : "The run was asked to end; its teardowns and hooks still run.");
    if (answer) set(true);
    return answer;
  };
  return html`<${Ask} label=${asked ? "End at once" : "Cancel"} action="cancel" tone="danger" run=${cancel}
    title=${asked ? "End the run at once?" : "Cancel this run?"} confirm=${asked ? "End at once" : "Cancel the run"}>
    <p>${asked ? "Its teardowns and hooks are stopped, too." : "Running tasks are stopped, the others do not start. Teardowns and hooks still run. A second cancel ends these, too."}</p><//>`;
};

const quote = text => /^[\w./:=@%+-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;

/** Return the line that starts the same run in a terminal. */
export const commandLine = run => ["lightflow", "run", run.source || run.workflow,
  ...Object.entries(run.params || {}).flatMap(([name, value]) =>
    ["-p", `${name}=${textOf(value)}`])].map(quote).join(" ");

/** Start a run with the parameters of another; `onStart` takes its id. */
const Again = ({ run, onStart }) => {
  const again = async () => {
    const answer = await act(() => send("POST", `runs/${encode(run.run_id)}/again`, undefined, { key: newKey() }), startText);
    if (answer?.status === "STARTED") onStart?.(answer.run_id);
    return answer;
  };
  return html`<${Ask} label="Run again…" action="again" title="Run ${shorten(run.workflow, 40)} again?" confirm="Run again" run=${again}>
    <p>A new run with the same parameters.</p><${Params} params=${run.params} /><p><a href=${href(["w", run.workflow, "run"], { from: run.run_id })}>Change the parameters first</a></p><//>`;
};

/** What a person can do with a run wherever it is shown: cancel it, or run it again. */
export const CancelOrAgain = ({ run, onStart }) => session.mayAct && (ACTIVE.has(run.status) ? html`<${Cancel} run=${run} />` : html`<${Again} run=${run} onStart=${onStart} />`);

/** The actions of a run. */
export const RunActions = ({ run }) => {
  const path = `runs/${encode(run.run_id)}`;
  return html`<span class="actions">
    ${session.mayAct && !ACTIVE.has(run.status) && run.resumable && run.status !== "SUCCESS" && html`<${Ask} label="Resume…" action="resume" tone="primary" title="Resume this run?" confirm="Resume"
      run=${() => act(() => send("POST", `${path}/resume`), "The run continues.")}><${Preview} run=${run.run_id} tasks=${[]} /><//>`}
    <${CancelOrAgain} run=${run} onStart=${id => go(href(["r", id]))} />
    <${Copy} text=${commandLine(run)} label="Copy command" ...${keyed("copy")} /></span>`;
};

const Params = ({ params }) => Object.keys(params || {}).length
  ? html`<dl class="pairs">${Object.entries(params).map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd><code>${textOf(value)}</code></dd></div>`)}</dl>`
  : html`<p class="muted">It has none.</p>`;

/** The actions of a task, or of an instance of a mapped task. */
export const TaskActions = ({ run, row }) => {
  const name = instanceName(row), path = `runs/${encode(run.run_id)}`, [only, setOnly] = useState(false), [status, setStatus] = useState("success");
  if (!session.mayAct) return null;
  if (row.status === "WAITING") return html`<${Approval} run=${run.run_id} row=${row} />`;
  if (ACTIVE.has(run.status) || !(row.kind === "task" || row.kind === "group" || row.kind == null) || !ENDED.has(row.status)) return null;
  return html`<span class="actions">
    <${Ask} label="Run from here…" action="retry" title="Run ${shorten(name, 40)} again?" confirm="Run again"
      run=${() => act(() => send("POST", `${path}/retry`, { tasks: [name], only }), "The run continues.")}>
      <label class="check"><input type="checkbox" checked=${only} onChange=${event => setOnly(event.target.checked)} /> only this task; what follows keeps its results</label>
      <${Preview} run=${run.run_id} tasks=${[name]} only=${only} /><//>
    <${Ask} label="Mark…" action="mark" title="Mark ${shorten(name, 40)} by hand" confirm="Mark" run=${data => act(
      () => send("POST", `${path}/mark`, { tasks: [name], status, ...(data.get("reason") && { reason: data.get("reason") }) }), `${name} is marked as ${status}.`)}>
      <p>A resume then takes it as it is marked, without running it.</p>
      <p class="choices">${["success", "skipped", "failed"].map(each => html`<label class="check" key=${each}><input type="radio" name="status" checked=${status === each} onChange=${() => setStatus(each)} />
        <${State} state=${each.toUpperCase()} /></label>`)}</p>
      <label>Reason <input name="reason" maxlength="500" /></label><//>
    <${Ask} label="Clear…" action="clear" title="Set ${shorten(name, 40)} back?" confirm="Clear" run=${() => act(
      () => send("POST", `${path}/clear`, { tasks: [name], only }), answer => `${many(answer.tasks.length, "task")} set back; the next resume runs ${answer.tasks.length === 1 ? "it" : "them"}.`)}>
      <label class="check"><input type="checkbox" checked=${only} onChange=${event => setOnly(event.target.checked)} /> only this task</label>
      <${Preview} run=${run.run_id} tasks=${[name]} only=${only} /><p class="muted">Nothing starts now: a resume of the run does that.</p><//></span>`;
};

/** The decision about a task that waits for a person, with its form. */
const Approval = ({ run, row }) => {
  const live = useLive(`runs/${encode(run)}/waits`), [texts, setTexts] = useState({}), [errors, setErrors] = useState({}), [problem, setProblem] = useState(null), [choice, choose] = useState(null);
  const wait = live.data?.waits.find(each => each.task === row.task && each.map_index === row.map_index);
  useEffect(() => { if (live.data && !wait?.approval) { const timer = setTimeout(live.reload, 500); return () => clearTimeout(timer); } return undefined; }, [live.data]);
  if (!wait?.approval) return null;
  const { message, fields } = wait.approval, textIn = field => texts[field.name] ?? defaultText(field);
  const submit = async event => {
    event.preventDefault();
    const approved = event.submitter.value === "approve", values = Object.fromEntries(fields.map(field => [field.name, textIn(field)]).filter(([, text]) => text));
    setErrors({});
    setProblem(null);
    choose(event.submitter.value);
    try {
      const answer = await send("POST", `${taskPath(run, row.task, row.map_index)}/decision`,
        { approved, fields: approved ? values : {}, comment: event.target.elements.comment.value });
      await act(async () => answer, `${instanceName(row)} is ${answer.decision}.`);
    } catch (error) { setErrors(error.fields || {}); setProblem(error); } finally { choose(null); }
  };
  return html`<section class="card approval"><h3>Waits for a decision</h3><p>${message}</p><form onSubmit=${submit}>
    ${fields.map(field => html`<${Field} key=${field.name} name=${field.name} schema=${{ ...field, enum: field.values }} required=${field.required} text=${textIn(field)} error=${errors[field.name]}
      onText=${text => setTexts(old => ({ ...old, [field.name]: text }))} />`)}
    <div class="field"><label for="comment">Comment</label><input id="comment" name="comment" maxlength="2000" /></div>
    <${Failure} problem=${problem} />
    <footer><button type="submit" value="reject" class="danger" disabled=${choice != null} formnovalidate>Reject</button>
      <button type="submit" value="approve" class="primary" disabled=${choice != null}>Approve</button></footer></form></section>`;
};
