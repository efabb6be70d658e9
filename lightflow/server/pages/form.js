// The form of a run, from the declared parameters. The server checks with the code that `lightflow run` uses.

import { html, useLive, useState, useEffect, useRef, get, send, href, go, Failure, Unread, Waiting, notify, session, startText, textOf, newKey, encode, keyed } from "./kit.js";

/** Return the text of a value in a field. */
const fieldText = value => value == null ? "" : textOf(value, 2);

/** Return the text of a field before a person has typed. */
export const defaultText = schema => fieldText(schema.default ?? (schema.type === "boolean" ? false : ""));

/** Return the value of a text by the schema of its parameter; a text that is none stays text, and the server says why. */
export function valueOf(text, schema) {
  if (schema.enum) return schema.enum.find(each => fieldText(each) === text) ?? text;
  if (schema.type === "integer" || schema.type === "number") return text.trim() !== "" && isFinite(Number(text)) ? Number(text) : text;
  if (schema.type === "boolean") return text === "true";
  if (schema.type === "array" || schema.type === "object") { try { return JSON.parse(text); } catch { return text; } }
  return text;
}

const rules = schema => [schema.minimum != null && `at least ${schema.minimum}`, schema.maximum != null && `at most ${schema.maximum}`,
  schema.pattern && `like ${schema.pattern}`, (schema.type === "array" || schema.type === "object") && "JSON", schema.format === "date" && "a date"]
  .filter(Boolean).join(", ");

export const Field = ({ name, schema, required, text, error, onText, onLeave }) => {
  const id = `param-${name}`, described = `${id}-about`;
  const common = { id, name, "aria-invalid": error != null, "aria-describedby": described, onBlur: onLeave };
  const input = schema.enum
    ? html`<select ...${common} value=${text} onChange=${event => { onText(event.target.value); onLeave?.(); }}>${!schema.enum.map(fieldText).includes(text) && html`<option value=""></option>`}
        ${schema.enum.map(each => html`<option key=${fieldText(each)} value=${fieldText(each)}>${fieldText(each)}</option>`)}</select>`
    : schema.type === "boolean" ? html`<label class="check"><input type="checkbox" ...${common} checked=${text === "true"} onChange=${event => onText(String(event.target.checked))} /> ${text === "true" ? "true" : "false"}</label>`
    : schema.type === "array" || schema.type === "object" || text.includes("\n") ? html`<textarea ...${common} rows=${Math.min(12, text.split("\n").length)} spellcheck=${false} value=${text} onInput=${event => onText(event.target.value)}></textarea>`
    : html`<input ...${common} type="text" inputmode=${schema.type === "integer" ? "numeric" : schema.type === "number" ? "decimal" : undefined} autocomplete="off"
        placeholder=${schema.format === "date" ? "2026-01-31, today, yesterday" : undefined} value=${text} onInput=${event => onText(event.target.value)} />`;
  return html`<div class=${`field${error ? " wrong" : ""}`}><label for=${id}>${name}${required && html`<span class="bad" title="required"> *</span>`}</label>
    <div>${input}<p id=${described} class=${error ? "bad" : "muted"}>${error ? error : [schema.description, rules(schema)].filter(Boolean).join(" · ")}</p></div></div>`;
};

export function Form({ name, query }) {
  const live = useLive(`workflows/${encode(name)}`);
  const [texts, setTexts] = useState(null), [errors, setErrors] = useState({}), [problem, setProblem] = useState(null), [busy, setBusy] = useState(false);
  const requestKey = useRef(newKey());
  const schema = live.data?.served?.params, properties = schema?.properties || {};
  const defaults = () => Object.fromEntries(Object.entries(properties).map(([field, each]) => [field, defaultText(each)]));
  const fill = params => setTexts({ ...defaults(), ...Object.fromEntries(Object.entries(params || {}).filter(([field]) => field in properties).map(([field, value]) => [field, fieldText(value)])) });
  useEffect(() => {
    if (!schema) return;
    if (query.from) get(`runs/${encode(query.from)}`).then(run => fill(run.params), error => { setProblem(error); fill({}); });
    else fill({});
  }, [live.data != null]);
  if (!live.data) return html`<${Unread} live=${live} />`;
  const head = html`<p class="crumbs"><a ...${keyed("back")} href=${href(["w", name])}>‹ ${name}</a></p><div class="head"><h1>Run ${name}</h1></div>`;
  if (!schema) return html`${head}<p class="problem">This server has no file of ${name}, so it cannot start it. <code>lightflow serve FILE</code> serves it.</p>`;
  if (live.data.served.problem) return html`${head}<p class="problem"><span>${live.data.served.problem}</span></p>`;
  if (!session.mayAct) return html`${head}<p class="problem">Your token is that of a viewer, who starts nothing.</p>`;
  if (!texts) return html`<${Waiting} />`;
  const required = new Set(schema.required || []);
  const params = () => Object.fromEntries(Object.entries(texts).filter(([field, text]) => text !== "" || properties[field].default != null)
    .map(([field, text]) => [field, valueOf(text, properties[field])]));
  const byField = list => Object.fromEntries(list.map(each => [each.field, each.message]));
  const check = async field => {
    try {
      const found = byField((await send("POST", `workflows/${encode(name)}/check`, { params: params() })).problems);
      setErrors(old => ({ ...old, [field]: found[field] }));
    } catch { /* the start says it */ }
  };
  const start = async event => {
    event.preventDefault();
    setBusy(true);
    setProblem(null);
    try {
      const answer = await send("POST", `workflows/${encode(name)}/runs`, { params: params() }, { key: requestKey.current });
      if (answer.status === "STARTED") { go(href(["r", answer.run_id])); return; }
      notify(startText(answer));
      go(href(["w", name]));
    } catch (error) {
      setErrors(error.fields || {});
      const first = Object.keys(properties).find(field => error.fields?.[field]);
      if (first) document.getElementById(`param-${first}`).focus();
      if (!first) setProblem(error);
      requestKey.current = newKey();
    } finally { setBusy(false); }
  };
  const fields = Object.entries(properties);
  return html`${head}<${Failure} problem=${problem} /><form class="params" onSubmit=${start} novalidate>
    ${fields.map(([field, each]) => html`<${Field} key=${field} name=${field} schema=${each} required=${required.has(field)} text=${texts[field] ?? ""} error=${errors[field]}
      onText=${text => setTexts(old => ({ ...old, [field]: text }))} onLeave=${() => check(field)} />`)}
    ${!fields.length && html`<p class="muted">It declares no parameters.</p>`}
    <footer><button type="submit" class="primary" disabled=${busy}>${busy ? "Starting…" : "Start"}</button>
      ${live.data.latest?.params && fields.length > 0 && html`<button type="button" onClick=${() => fill(live.data.latest.params)}>As last time</button>
      <button type="button" class="quiet" onClick=${() => fill({})}>Defaults</button>`}</footer></form>`;
}
