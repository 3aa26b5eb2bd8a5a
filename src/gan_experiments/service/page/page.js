// The page of `gan-experiments demo`: asks the service at its own address, and no other.
const at = (id) => document.getElementById(id);
const state = { models: [], limits: {}, latents: {}, model: null, row: 0, token: "", shown: {}, mask: null, image: null };

class Refused extends Error {}

async function ask(path, options = {}) {
  const headers = { ...options.headers };
  if (state.token) headers.Authorization = `Bearer ${state.token}`;
  const answer = await fetch(path, { ...options, headers }).catch(() => {
    throw new Refused("The service does not answer; is it still running?");
  });
  if (answer.ok) return answer;
  if (answer.status === 401) at("token-form").hidden = false;
  const told = await answer.json().catch(() => ({}));
  throw new Refused(told.error || `The service answered ${answer.status}.`);
}

const post = (path, body) =>
  ask(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });

function say(text) {
  at("status").textContent = text;
}

/** Does something that takes time: what is stale is pale meanwhile, and a mistake is told. */
async function during(place, work) {
  at("error").hidden = true;
  place.classList.add("busy");
  place.setAttribute("aria-busy", "true");
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    at("error").textContent = error.message;
    at("error").hidden = false;
  } finally {
    place.classList.remove("busy");
    place.removeAttribute("aria-busy");
  }
}

/** Returns a function that asks for the newest state alone: while one answer is awaited, later calls become one. */
function newest(work) {
  let running = null, again = false;
  return async () => {
    again = true;
    running ??= (async () => {
      while (again) {
        again = false;
        await work();
      }
    })().finally(() => (running = null));
    return running;
  };
}

function show(image, blob) {
  if (state.shown[image.id]) URL.revokeObjectURL(state.shown[image.id]);
  image.src = state.shown[image.id] = URL.createObjectURL(blob);
  image.hidden = false;
  return image.src;
}

function options(select, entries, chosen = "") {
  select.replaceChildren(...entries.map(([value, text]) => new Option(text, value, false, value === chosen)));
}

const random = () => Math.floor(Math.random() * 2 ** 32);
const whole = (input) => (input.reportValidity() ? Number(input.value) : null);

// ------------------------------------------------------------------ the models

async function begin() {
  await during(document.body, async () => {
    const told = await (await ask("/models")).json();
    Object.assign(state, { models: told.models, limits: told.limits });
    state.latents = await (await ask("/latents")).json();
    at("token-form").hidden = true;
    options(at("model"), state.models.map((one) => [one.name, one.name]));
    at("model-choice").hidden = state.models.length < 2;
    await choose(state.models[0].name);
  });
}

async function choose(name) {
  const model = (state.model = state.models.find((one) => one.name === name));
  const seen = model.images_seen.toLocaleString("en");
  at("about").textContent = `${model.model}, ${seen} images seen, checkpoint ${model.checkpoint.slice(0, 8) || "unknown"}`;
  const draws = model.task === "sample";
  at("draw").hidden = !draws;
  at("translate").hidden = draws;
  if (draws) await beginDrawing(model);
  else beginTranslating(model);
}

// ------------------------------------------------------------------ draw

async function beginDrawing(model) {
  at("n").max = Math.min(state.limits.max_n, 64);
  at("n").value = Math.min(12, at("n").max);
  options(at("class"), [["", "each in turn"], ...model.classes.map((one) => [one, one])]);
  at("class-field").hidden = model.classes.length === 0;
  at("caption-field").hidden = model.words.length === 0;
  at("caption").value = "";
  at("caption-hint").textContent = `Empty: captions of the data. It knows ${model.words.length} words: ${model.words.slice(0, 40).join(", ")}${model.words.length > 40 ? ", …" : ""}.`;
  at("camera-field").hidden = model.cameras.length === 0;
  at("data-cameras").checked = true;
  const styled = model.truncation === "w";
  Object.assign(at("truncation"), styled ? { min: 0.05, max: 1, value: 1 } : { min: 0.1, max: 3, value: 3 });
  at("truncation-label").textContent = styled ? "Truncation ψ" : "Truncation, largest |z|";
  at("edit-panel").hidden = at("edited").hidden = true;
  beginEditing();
  tell();
  await draw();
}

const off = () => at("truncation").value === at("truncation").max;

function asked() {
  return {
    model: state.model.name,
    seed: whole(at("seed")),
    label: at("class").value || at("caption").value.trim() || null,
    camera: at("camera-field").hidden || at("data-cameras").checked ? null : [Number(at("yaw").value), Number(at("pitch").value)],
    truncation: off() ? null : Number(at("truncation").value),
  };
}

function tell() {
  at("n-value").textContent = at("n").value;
  const degrees = (id) => (at("data-cameras").checked ? "" : `${at(id).value}°`);
  at("yaw-value").textContent = degrees("yaw");
  at("pitch-value").textContent = degrees("pitch");
  at("truncation-value").textContent = off() ? "none" : Number(at("truncation").value).toFixed(2);
  at("share-value").textContent = `${Math.round(100 * at("share").value)} %`;
}

const draw = newest(() =>
  during(at("gallery"), async () => {
    const body = { ...asked(), n: Number(at("n").value), format: "json" };
    if (body.seed === null) return;
    state.drawn = body;
    const told = await (await post("/sample", body)).json();
    at("gallery").replaceChildren(
      ...told.images.map((image, row) => {
        const button = document.createElement("button"), picture = new Image();
        const label = told.labels ? told.labels[row] : "", kind = state.model.cameras.length ? "from" : state.model.words.length ? "caption" : "class";
        picture.src = `data:image/png;base64,${image}`;
        picture.alt = "";
        button.type = "button";
        button.append(picture);
        button.setAttribute("aria-label", `Image ${row + 1}${label && `, ${kind} ${label}`}`);
        button.setAttribute("aria-pressed", "false");
        if (label) button.append(Object.assign(document.createElement("small"), { textContent: label, title: label }));
        button.addEventListener("click", () => pick(row, label));
        return button;
      }),
    );
    say(`${told.images.length} images drawn from seed ${body.seed}`);
  }),
);

// ------------------------------------------------------------------ edit

const editable = () => state.latents[state.model.name];

function beginEditing() {
  const able = editable();
  const files = able ? Object.entries(able.directions) : [];
  at("other-field").hidden = !able;
  at("directions-field").hidden = files.length === 0;
  at("no-directions").hidden = !able || files.length > 0;
  at("no-directions").textContent = able ? able.hint : "";
  at("directions-choice").hidden = files.length < 2;
  options(at("directions-file"), files.map(([name]) => [name, name]));
  const ranges = able ? able.styles : [];
  at("styles-field").hidden = ranges.length === 0;
  options(at("styles"), [["", "none"], ...ranges.map((one) => [one, one])]);
  sliders();
}

function sliders() {
  const able = editable();
  const names = (able && able.directions[at("directions-file").value]) || [];
  at("directions").replaceChildren(
    ...names.map((name, index) => {
      const field = document.createElement("div"), label = document.createElement("label");
      const row = document.createElement("div"), input = document.createElement("input"), output = document.createElement("output");
      field.className = "slider";
      row.className = "row";
      label.textContent = name;
      label.htmlFor = input.id = `direction-${index}`;
      Object.assign(input, { type: "range", min: -6, max: 6, step: 0.1, value: 0 });
      input.dataset.name = name;
      output.htmlFor = input.id;
      output.textContent = "0.0 sd";
      input.addEventListener("input", () => {
        output.textContent = `${Number(input.value).toFixed(1)} sd`;
        edit();
      });
      row.append(input, output);
      field.append(label, row);
      return field;
    }),
  );
}

async function pick(row, label) {
  Object.assign(state, { row, label });
  for (const [index, button] of [...at("gallery").children].entries()) button.setAttribute("aria-pressed", index === row);
  at("before").src = at("gallery").children[row].querySelector("img").src;
  at("before").alt = `Image ${row + 1}${label && `, ${label}`}, as it was drawn`;
  at("edit-panel").hidden = !editable();
  at("edited").hidden = false;
  at("edit-pair").querySelector("figure").hidden = at("other-figure").hidden = !editable();
  at("after-caption").textContent = editable() ? "Edited" : `Image ${row + 1}`;
  await Promise.all([edit(), second()]);
  at("edited").scrollIntoView({ block: "nearest" });
}

function edits() {
  const strengths = [...at("directions").querySelectorAll("input")].map((one) => [one.dataset.name, Number(one.value)]);
  return {
    n: state.drawn.n,
    row: state.row,
    file: at("directions-file").value || null,
    strengths: Object.fromEntries(strengths.filter(([, value]) => value)),
    other: whole(at("other")) ?? 0,
    share: Number(at("share").value),
    styles: at("styles").value || null,
  };
}

const edit = newest(() =>
  during(at("after"), async () => {
    const { model, seed, label, camera, truncation, n } = state.drawn;
    let blob;
    if (editable()) {
      blob = await (await post("/edit", { model, seed, label, camera, truncation, ...edits() })).blob();
    } else {
      blob = new Blob([Uint8Array.from(atob(at("before").src.split(",")[1]), (one) => one.charCodeAt(0))], { type: "image/png" });
    }
    at("download").href = show(at("after"), blob);
    at("download").download = `${model}-seed${seed}-${state.row + 1}.png`;
    at("after").alt = `Image ${state.row + 1} of ${n}, edited`;
  }),
);

const second = newest(() =>
  during(at("other-image"), async () => {
    if (!editable()) return;
    const { model, camera, truncation, n } = state.drawn;
    const other = whole(at("other"));
    if (other === null) return;
    const label = state.model.cameras.length ? null : state.label || null;
    const body = { model, seed: other, label, camera, truncation, n, row: state.row };
    show(at("other-image"), await (await post("/edit", body)).blob());
    at("other-image").alt = `The image of seed ${other}`;
  }),
);

function reset() {
  stop();
  for (const input of at("directions").querySelectorAll("input")) {
    input.value = 0;
    input.closest(".row").querySelector("output").textContent = "0.0 sd";
  }
  at("share").value = 0;
  at("styles").value = "";
  tell();
  return edit();
}

let walking = false;

function stop() {
  walking = false;
  at("walk").textContent = "Play";
  at("walk").setAttribute("aria-pressed", "false");
}

async function walk() {
  if (walking) return stop();
  walking = true;
  at("walk").textContent = "Stop";
  at("walk").setAttribute("aria-pressed", "true");
  let share = Number(at("share").value) % 1;
  while (walking && share < 1) {
    share = Math.min(1, share + 0.04);
    at("share").value = share;
    tell();
    await edit();
    await new Promise((done) => setTimeout(done, 40));
  }
  stop();
}

// ------------------------------------------------------------------ translate

const direction = () => state.model.directions[at("to").value];

function beginTranslating(model) {
  options(at("to"), Object.keys(model.directions).map((one) => [one, one]));
  options(at("label"), model.classes.map((one) => [one, one]));
  way();
}

function way() {
  const also = direction().also;
  at("label-field").hidden = !also.includes("label");
  at("mask-field").hidden = !also.includes("mask");
  at("paint").hidden = !also.includes("mask") || !state.image;
}

function take(file) {
  if (!file) return;
  state.image = file;
  state.mask = null;
  at("mask").value = "";
  at("go").disabled = false;
  at("result").hidden = at("translate-download").hidden = true;
  const image = at("input");
  image.onload = () => {
    Object.assign(at("paint"), { width: image.naturalWidth, height: image.naturalHeight });
    image.classList.toggle("small", image.naturalWidth < 200);
    way();
  };
  image.onerror = () => {
    image.hidden = true; // TIFF, which browsers do not show
    at("paint").hidden = true;
  };
  show(image, file);
  say(`${file.name || "An image"} is chosen`);
}

async function translate() {
  await during(at("result"), async () => {
    const seed = whole(at("translate-seed"));
    if (!state.image || seed === null) return;
    const form = new FormData();
    form.append("model", state.model.name);
    form.append("to", at("to").value);
    form.append("seed", seed);
    form.append("format", "png");
    form.append("image", state.image);
    if (direction().also.includes("label")) form.append("label", at("label").value);
    if (direction().also.includes("mask")) {
      const mask = at("mask").files[0] || (await painted());
      if (!mask) throw new Refused("Paint the hole that is to be filled in, or choose a mask.");
      form.append("mask", mask);
    }
    at("go").disabled = true;
    try {
      const blob = await (await ask("/translate", { method: "POST", body: form })).blob();
      const name = `${(state.image.name || "image").replace(/\.\w+$/, "")}-${at("to").value}.png`;
      Object.assign(at("translate-download"), { href: show(at("result"), blob), download: name, hidden: false });
      at("result").alt = `The image made into ${at("to").value}`;
      at("result").onload = () => at("result").classList.toggle("small", at("result").naturalWidth < 200);
      say("The translation is there");
    } finally {
      at("go").disabled = false;
    }
  });
}

/** The painted mask as a file, black with white in the hole; null if nothing is painted. */
async function painted() {
  if (!state.mask || at("paint").hidden) return null;
  const canvas = document.createElement("canvas"), pen = canvas.getContext("2d");
  Object.assign(canvas, { width: at("paint").width, height: at("paint").height });
  pen.fillStyle = "black";
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.drawImage(at("paint"), 0, 0);
  const pixels = pen.getImageData(0, 0, canvas.width, canvas.height);
  for (let i = 0; i < pixels.data.length; i += 4) pixels.data.fill(pixels.data[i] > 127 ? 255 : 0, i, i + 3);
  pen.putImageData(pixels, 0, 0);
  return new Promise((done) => canvas.toBlob(done, "image/png"));
}

function stroke(event) {
  if (!(event.buttons & 1)) return;
  const canvas = at("paint"), pen = canvas.getContext("2d"), box = canvas.getBoundingClientRect();
  const scale = canvas.width / box.width;
  const [x, y] = [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
  const last = event.type === "pointerdown" ? [x, y] : state.mask || [x, y];
  Object.assign(pen, { strokeStyle: "white", lineCap: "round", lineWidth: Math.max(1, at("brush").value * scale) });
  pen.beginPath();
  pen.moveTo(...last);
  pen.lineTo(x, y);
  pen.stroke();
  state.mask = [x, y];
  event.preventDefault();
}

function clear() {
  at("paint").getContext("2d").clearRect(0, 0, at("paint").width, at("paint").height);
  state.mask = null;
  at("mask").value = "";
}

// ------------------------------------------------------------------ what a person does

const on = (id, event, work) => at(id).addEventListener(event, work);

on("model", "change", () => during(document.body, () => choose(at("model").value)));
on("token-form", "submit", (event) => {
  event.preventDefault();
  state.token = at("token").value.trim();
  begin();
});
on("draw-form", "submit", (event) => {
  event.preventDefault();
  at("edit-panel").hidden = at("edited").hidden = true;
  stop();
  draw();
});
on("another", "click", () => {
  at("seed").value = random();
  at("draw-form").requestSubmit();
});
for (const id of ["n", "truncation"]) on(id, "input", tell);
on("data-cameras", "change", () => at("draw-form").requestSubmit());
for (const id of ["yaw", "pitch"]) on(id, "input", () => {
  at("data-cameras").checked = false;
  tell();
  draw();
});
on("another-other", "click", () => {
  at("other").value = random();
  second();
  edit();
});
on("other", "change", () => Promise.all([second(), edit()]));
on("share", "input", () => {
  tell();
  edit();
});
on("styles", "change", edit);
on("walk", "click", walk);
on("reset", "click", reset);
on("directions-file", "change", () => {
  sliders();
  edit();
});

on("to", "change", way);
on("file", "change", () => take(at("file").files[0]));
on("translate-form", "submit", (event) => {
  event.preventDefault();
  translate();
});
on("clear", "click", clear);
for (const kind of ["pointerdown", "pointermove"]) on("paint", kind, stroke);
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    if (at("translate").hidden) return;
    event.preventDefault();
    at("drop").classList.toggle("over", kind === "dragover");
    if (kind === "drop") take(event.dataTransfer.files[0]);
  });
}
document.addEventListener("paste", (event) => {
  if (!at("translate").hidden && event.clipboardData.files.length) take(event.clipboardData.files[0]);
});

begin();
