/**
 * Two models side by side, blind if wished, and what was measured of them.
 *
 * @typedef {{section: string, name: string, unit: string, value: number | null, real: number | null, aim: string,
 *   met: boolean | null}} Figure
 * @typedef {{name: string, card: {figures: Figure[], faults: string[]} | null}} Model
 */

/** @param {string} id */
const find = (id) => document.getElementById(id);

/** @returns {HTMLElement} */
function element(tag, text, attributes = {}) {
  const made = document.createElement(tag);
  made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

export class Models {
  /** @param {(beside: boolean) => void} onChoice told whether the model beside is to play the next take */
  constructor(onChoice) {
    this.onChoice = onChoice;
    /** @type {Model[]} the service's own, and the one beside */
    this.models = [];
    this.sides = [false, true]; // whether A and B are the one beside
    this.side = 0;
    find("side-a").onclick = () => this.choose(0);
    find("side-b").onclick = () => this.choose(1);
    find("blind").onchange = ({ target }) => this.hide(target.checked);
  }

  /** @param {Model[]} models */
  learn(models) {
    this.models = models;
    this.show();
  }

  get blind() {
    return find("blind").checked;
  }

  get beside() {
    return this.models.length > 1 && this.sides[this.side];
  }

  choose(side) {
    if (side === this.side) return;
    this.side = side;
    this.show();
    this.onChoice(this.beside);
  }

  /** Which is which is drawn by lot when it is hidden, and stays so when it is shown. */
  hide(blind) {
    if (blind) {
      const swapped = crypto.getRandomValues(new Uint8Array(1))[0] % 2 === 1;
      this.sides = [swapped, !swapped];
      this.side = 0;
      this.onChoice(this.beside); // whether it is another or not: a seam, or none, would tell
    }
    this.show();
  }

  show() {
    find("models").hidden = this.models.length < 2;
    for (const [number, id] of ["side-a", "side-b"].entries()) {
      find(id).setAttribute("aria-pressed", String(number === this.side));
      const model = this.models[Number(this.sides[number])];
      find(id).querySelector("span").textContent = this.blind ? "?" : (model?.name ?? "");
    }
    this.showCard();
  }

  showCard() {
    const shown = this.models.length > 1 ? this.sides.map((beside) => this.models[Number(beside)]) : this.models;
    const missing = shown.filter(({ card }) => card === null).map(({ name }) => name);
    const sentence = this.blind
      ? "Hidden, for it would tell which model is which: uncheck Blind to read it."
      : missing.map((name) => `Nothing was measured of ${name} here: run bardcast-train evaluate.`).join(" ");
    find("card-missing").textContent = sentence;
    find("card-missing").hidden = sentence === "";
    const measured = this.blind ? [] : shown.filter(({ card }) => card !== null);
    find("card-table").replaceChildren(...(measured.length > 0 ? table(measured) : []));
  }
}

/** The figures that have an aim, a column a model, beside real music. */
function table(models) {
  const head = element("thead", "");
  const titles = head.appendChild(element("tr", ""));
  for (const title of ["Measured", ...models.map(({ name }) => name), "Recordings", "Aim"]) {
    titles.append(element("th", title, { scope: "col" }));
  }
  const body = element("tbody", "");
  let section = null;
  for (const figure of models[0].card.figures.filter(({ met }) => met !== null)) {
    if (figure.section !== section) {
      section = figure.section;
      const row = body.appendChild(element("tr", ""));
      row.append(element("th", section, { scope: "rowgroup", colspan: String(3 + models.length) }));
    }
    const row = body.appendChild(element("tr", ""));
    row.append(element("th", figure.name, { scope: "row" }));
    for (const { card } of models) row.append(cell(card.figures.find(({ name }) => name === figure.name)));
    row.append(element("td", number(figure.real, figure.unit)), element("td", figure.aim));
  }
  return [head, body];
}

function cell(figure) {
  if (figure === undefined) return element("td", "–");
  const missed = figure.met === false;
  return element("td", number(figure.value, figure.unit) + (missed ? " ✗" : ""), missed ? { class: "missed" } : {});
}

function number(value, unit) {
  return value === null ? "–" : `${Number(value.toPrecision(3))}${unit === "" ? "" : ` ${unit}`}`;
}
