// Texts are set by textContent, so that no answer is read as HTML.
const element = (id) => document.getElementById(id);
let models = [];

function add(parent, tag, text, name) {
  const child = parent.appendChild(document.createElement(tag));
  if (text !== undefined) child.textContent = text;
  if (name) child.className = name;
  return child;
}

function size(bytes) {
  return bytes < 1e6 ? `${(bytes / 1e3).toFixed(0)} kB`
    : `${(bytes / 1e6).toFixed(2)} MB`;
}

function show(section, model, found) {
  section.replaceChildren();
  add(section, 'h2', model.name);
  const table = add(section, 'table');
  const ratio = models[0].num_params / model.num_params;
  for (const [name, value] of [
    ['numbers', model.num_params.toLocaleString('en')],
    ['file', size(model.num_bytes)],
    ['ratio', ratio.toFixed(2)],
    ['test scores', model.scores],
    ['time', found && `${found.milliseconds.toFixed(0)} ms`],
  ]) {
    if (!value) continue;
    const row = add(table, 'tr');
    add(row, 'td', name);
    add(row, 'td', value);
  }
  if (!found) return;
  const list = add(section, 'ol');
  for (const answer of found.answers) {
    const item = add(list, 'li', `${answer.text} `);
    add(item, 'span', `(${answer.score.toFixed(3)})`, 'score');
  }
}

async function ask(index, text) {
  const response = await fetch('answer', {
    method: 'POST',
    body: JSON.stringify({model: index, text}),
  });
  const found = await response.json();
  if (!response.ok) throw new Error(found.error);
  return found;
}

// The largest model, and the chosen one of the others.
function panels() {
  const found = [['first', 0], ['second', Number(element('choice').value) + 1]];
  return found.slice(0, models.length);
}

// Answers of an earlier text or model that arrive late are not shown.
let request = 0;

async function run() {
  const text = element('text').value;
  const mine = ++request;
  element('error').textContent = '';
  for (const [id, index] of panels()) show(element(id), models[index]);
  if (!text.trim()) return;
  try {
    for (const [id, index] of panels()) {
      const found = await ask(index, text);
      if (mine !== request) return;
      show(element(id), models[index], found);
    }
    document.body.dataset.done = mine;
  } catch (error) {
    element('error').textContent = error.message;
  }
}

async function start() {
  models = await (await fetch('models')).json();
  element('choice').max = Math.max(models.length - 2, 0);
  element('choice').parentElement.hidden = models.length < 3;
  element('second').hidden = models.length < 2;
  element('choice').addEventListener('change', run);
  element('form').addEventListener('submit', (event) => {
    event.preventDefault();
    run();
  });
  element('text').value = new URLSearchParams(location.search).get('text') ?? '';
  run();
}

start();
