// The page of `make review`: shows one image, or a grid, and sends what was decided. Asks no other server.

const SUSPECTS = 'suspects';
const GRID = 'grid';
const UNKNOWN = 'unknown';
const NAMES = { unknown: 'Unknown', near: 'Near', random: 'Random', suspects: 'Suspected labels', skipped: 'Skipped', grid: 'Grid' };
const LISTS = Object.keys(NAMES);
const CHOICES = 9;

const find = (id) => document.getElementById(id);
const field = find('label');
let state = null; // what the server says of all lists
let list = LISTS[0];
let items = []; // the first images of the list
let answer = null; // of the server, in the grid
let sheet = null; // the gallery's pictures of one version: { version, image, side, columns }
let busy = false; // while the server is asked, no key does anything: the image may be another one then
let asked = null; // a new label, which is added if Enter is pressed once more
const abouts = new Map(); // by image, what the served model says

history.replaceState(null, '', location.pathname); // the token is not needed any more

const remembered = (name) => JSON.parse(sessionStorage.getItem(name) ?? '[]');
const remember = (name, value) => sessionStorage.setItem(name, JSON.stringify(value));

async function ask(path, order) {
  const options = order && { method: 'POST', body: JSON.stringify(order), headers: { 'Content-Type': 'application/json' } };
  const response = await fetch(path, options).catch(() => {
    throw new Error('make review does not answer any more: start it again, and open its new address.');
  });
  const found = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(found.error ?? `Error ${response.status}`);
  return found;
}

function say(text, isError = false) {
  find('status').textContent = text;
  find('status').classList.toggle('error', isError);
}

/** Does one thing after the other, and shows what goes wrong. */
async function alone(work) {
  if (busy) return;
  busy = true;
  try {
    await work();
  } catch (error) {
    say(error.message, true);
  } finally {
    busy = false;
    document.body.dataset.ready = String(Number(document.body.dataset.ready ?? 0) + 1); // for whoever waits
  }
}

/** Shows a list anew. `said` are the sentences about what was just done. */
async function refresh(said = '') {
  state = await ask('state');
  if (list === GRID) await loadGrid();
  else items = await ask(`next/${list}`);
  asked = null;
  field.value = '';
  showLists();
  showFrame();
  if (list === GRID) showGrid();
  else await showOne();
  say(said);
}

function showLists() {
  const counts = { ...state.queues, [GRID]: Object.values(state.answers).reduce((sum, count) => sum + count, 0) };
  find('lists').replaceChildren(...LISTS.map((name) => button(`${NAMES[name]} ${counts[name]}`, name === list, () => open(name))));
  find('measured').textContent = measured(state.measured);
  find('where').textContent = where();
}

function measured(found) {
  if (!found) return `Measured accuracy of ${state.version ?? 'no version'}: no random image counts yet.`;
  const [value, low, high] = [found.accuracy, found.low, found.high].map((each) => each.toFixed(4));
  const skipped = found.skipped ? `, ${found.skipped} skipped` : '';
  return `Measured accuracy of ${state.version}: ${value} (${low} to ${high}), ${found.right} of ${found.images} random images${skipped}.`;
}

function where() {
  return `Images go to ${state.folder}; the next run reads them.`;
}

function button(text, isCurrent, onClick) {
  const made = document.createElement('button');
  made.type = 'button';
  made.textContent = text;
  made.setAttribute('aria-current', String(isCurrent));
  made.addEventListener('click', onClick);
  return made;
}

/** The parts of the page that a list needs, and the labels to complete. */
function showFrame() {
  const isGrid = list === GRID;
  const isEmpty = !items.length;
  find('one').hidden = isGrid || isEmpty;
  find('many').hidden = !isGrid;
  find('empty').hidden = isGrid || !isEmpty;
  find('choices').hidden = isEmpty || isGrid;
  find('typed').hidden = isEmpty || isFixed();
  find('parts').hidden = isEmpty || list === SUSPECTS;
  for (const id of ['skip', 'not-ours']) find(id).hidden = isEmpty || isGrid;
  find('not-ours').hidden ||= list === SUSPECTS;
  find('undo').disabled = !remembered('done').length;
  find('confirm').textContent = 'Label';
  find('labels').replaceChildren(...state.labels.map((label) => Object.assign(document.createElement('option'), { value: label })));
  if (!find('parts').querySelector('input')) showParts();
}

/** Whether the label of the suspected image cannot be changed from here. */
const isFixed = () => list === SUSPECTS && Boolean(items[0]?.fixed);

function showParts() {
  const words = { train: 'train: learned from, and tested on', gallery: 'gallery: only compared with, so nothing is trained anew' };
  const chosen = remembered('part')[0] ?? state.parts[0];
  for (const part of state.parts) {
    const label = document.createElement('label');
    const radio = Object.assign(document.createElement('input'), { type: 'radio', name: 'part', value: part, checked: part === chosen });
    radio.addEventListener('change', () => remember('part', [part]));
    label.append(radio, words[part] ?? part);
    find('parts').append(label);
  }
}

async function showOne() {
  const [item, ...next] = items;
  if (!item) return;
  const kind = list === SUSPECTS ? 'suspect' : 'collected';
  find('picture').removeAttribute('src');
  find('picture').src = `picture/${kind}/${item.digest}`;
  find('neighbours').replaceChildren();
  if (list === SUSPECTS) {
    find('said').textContent = `Labelled ${item.label}, neighbours ${item.neighbours}`;
    find('facts').textContent = item.fixed ? `${item.fixed}.` : item.name;
    showChoices(item.fixed ? [item.label] : [item.label, item.neighbours, ...state.labels]);
    return;
  }
  find('said').textContent = said(item);
  find('facts').textContent = facts(item);
  const { neighbours } = await about(item.digest);
  showChoices([item.label, ...neighbours.map((each) => each.label), ...remembered('used'), ...state.labels]);
  const pictures = await gallery();
  find('neighbours').replaceChildren(...neighbours.map((each) => neighbour(each, pictures)));
  for (const each of next) {
    about(each.digest);
    new Image().src = `picture/${kind}/${each.digest}`; // so that it is there when its turn comes
  }
}

function said(item) {
  if (item.label !== UNKNOWN) return `The server said ${item.label}`;
  return `The server said unknown${item.nearest === null ? '' : `; the nearest is ${item.nearest}`}`;
}

function facts(item) {
  const distance = (name, value, limit) => (value === null ? null : `${name} ${value.toFixed(4)}${limit === null ? '' : ` of ${limit.toFixed(4)}`}`);
  return [
    distance('distance', item.distance, item.threshold),
    distance('by features', item.features_distance, item.features_threshold),
    item.random ? 'drawn at random' : null,
    `version ${item.version}`,
    new Date(item.time).toLocaleString(),
  ].filter(Boolean).join(', ');
}

function about(digest) {
  if (!abouts.has(digest)) abouts.set(digest, ask(`about/${digest}`).catch(() => ({ neighbours: [] })));
  return abouts.get(digest);
}

/** The gallery's small pictures; null if the model has none. */
async function gallery() {
  if (!state.pictures || !state.version) return null;
  if (sheet?.version !== state.version) {
    const image = Object.assign(new Image(), { src: `sheet/${state.version}` });
    await image.decode().catch(() => null);
    sheet = { version: state.version, image, ...state.pictures };
  }
  return sheet.image.naturalWidth ? sheet : null;
}

function neighbour({ label, distance, index }, pictures) {
  const item = document.createElement('li');
  if (pictures) {
    const { image, side, columns } = pictures;
    const canvas = Object.assign(document.createElement('canvas'), { width: side, height: side });
    const [x, y] = [(index % columns) * side, Math.floor(index / columns) * side];
    canvas.getContext('2d').drawImage(image, x, y, side, side, 0, 0, side, side);
    item.append(canvas);
  }
  item.append(`${label} ${distance.toFixed(3)}`);
  return item;
}

function showChoices(likely) {
  const labels = [...new Set(likely)].filter((label) => label !== UNKNOWN).slice(0, CHOICES);
  find('choices').replaceChildren(...labels.map((label, place) => {
    const item = document.createElement('li');
    const made = button('', false, () => choose(label));
    const key = Object.assign(document.createElement('kbd'), { textContent: String(place + 1) });
    made.append(key, ` ${label}${list === SUSPECTS && label === items[0].label ? ' (is right)' : ''}`);
    item.append(made);
    return item;
  }));
}

async function loadGrid() {
  const names = Object.keys(state.answers);
  if (!names.includes(answer)) answer = names[0] ?? null;
  items = answer === null ? [] : await ask(`grid?answer=${encodeURIComponent(answer)}`);
}

function showGrid() {
  const pick = (name) => alone(async () => { answer = name; await refresh(); });
  find('answers').replaceChildren(...Object.entries(state.answers).map(([name, count]) => button(`${name} ${count}`, name === answer, () => pick(name))));
  find('tiles').replaceChildren(...items.map((item, place) => {
    const tile = button('', false, () => tile.setAttribute('aria-pressed', String(tile.getAttribute('aria-pressed') !== 'true')));
    tile.removeAttribute('aria-current');
    tile.setAttribute('aria-pressed', 'true');
    tile.setAttribute('aria-label', `Image ${place + 1}, ${said(item)}`);
    tile.append(Object.assign(new Image(), { src: `picture/collected/${item.digest}?small`, alt: '', loading: 'lazy' }));
    return tile;
  }));
  field.placeholder = answer === null || answer === UNKNOWN ? '' : answer;
  find('tiles').firstElementChild?.focus();
}

const tiles = () => [...find('tiles').children];
const part = () => find('parts').querySelector('input:checked').value;

const open = (name) => alone(async () => {
  list = name;
  field.placeholder = '';
  await refresh();
});

/** Gives the image, or all chosen ones of the grid, a label. */
const choose = (label) => alone(async () => {
  const chosen = list === GRID ? items.filter((_, place) => tiles()[place].getAttribute('aria-pressed') === 'true') : items.slice(0, 1);
  if (!chosen.length) return say('No image is chosen.', true);
  remember('used', [...new Set([label, ...remembered('used')])].slice(0, CHOICES));
  await decide({ action: 'label', digests: chosen.map((each) => each.digest), label, part: part() }, `${label}: ${chosen.length}`);
});

const note = (action, text) => alone(async () => {
  if (!items.length || list === GRID) return;
  if (list === SUSPECTS) { // nothing is noted of these
    items = [...items.slice(1), items[0]];
    showFrame();
    return showOne();
  }
  await decide({ action, digests: [items[0].digest] }, text);
});

async function decide(order, text) {
  const lines = await ask('decide', { ...order, queue: list });
  remember('done', [...remembered('done'), lines.map((line) => line.id)].slice(-1000));
  await refresh(`${text}. u takes it back.`);
}

const undo = () => alone(async () => {
  const done = remembered('done');
  if (!done.length) return say('There is nothing to take back.');
  try {
    const digests = await ask('undo', { ids: done.pop() });
    await refresh(`Taken back: ${digests.length}.`);
  } finally {
    remember('done', done);
    find('undo').disabled = !done.length;
  }
});

function submit() {
  const text = field.value.trim();
  if (!text && list === GRID && answer !== null && answer !== UNKNOWN) return choose(answer);
  if (!text) return busy ? undefined : say('Type a label first.', true);
  if (state.labels.includes(text) || asked === text) {
    field.blur();
    return choose(text);
  }
  asked = text;
  find('confirm').textContent = 'Add';
  return say(`“${text}” is a new label. Enter once more adds it.`);
}

/** Moves between the images of the grid. */
function move(key) {
  const all = tiles();
  const columns = getComputedStyle(find('tiles')).gridTemplateColumns.split(' ').length;
  const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[key];
  const from = all.indexOf(document.activeElement);
  all[from < 0 ? 0 : Math.min(Math.max(from + step, 0), all.length - 1)]?.focus();
}

function turn(step) {
  open(LISTS[(LISTS.indexOf(list) + step + LISTS.length) % LISTS.length]);
}

const KEYS = {
  s: () => note('skip', 'Skipped'),
  x: () => list !== SUSPECTS && note('not-ours', 'Not one of ours'),
  u: undo,
  g: () => open(GRID),
  '/': () => field.focus(),
  '[': () => turn(-1),
  ']': () => turn(1),
};

addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || event.isComposing || event.repeat || !state) return;
  const isTile = find('tiles').contains(document.activeElement);
  if (document.activeElement === field) {
    if (event.key === 'Escape') {
      field.value = '';
      field.blur();
    }
  } else if (/^[1-9]$/.test(event.key)) {
    if (list !== GRID) find('choices').children[event.key - 1]?.firstElementChild.click();
  } else if (KEYS[event.key]) {
    event.preventDefault();
    KEYS[event.key]();
  } else if (list === GRID && event.key.startsWith('Arrow') && document.activeElement.type !== 'radio') {
    event.preventDefault();
    move(event.key);
  } else if (event.key === 'Enter' && isTile) {
    event.preventDefault();
    submit();
  } else if (event.key.length === 1 && event.key !== ' ' && !find('typed').hidden) {
    field.focus(); // which then gets the key
  }
});
find('typed').addEventListener('submit', (event) => {
  event.preventDefault();
  submit();
});
field.addEventListener('input', () => {
  if (asked !== null) find('confirm').textContent = 'Label';
  asked = null;
});
find('skip').addEventListener('click', KEYS.s);
find('not-ours').addEventListener('click', KEYS.x);
find('undo').addEventListener('click', undo);
find('picture').addEventListener('load', () => find('picture').classList.toggle('small', find('picture').naturalWidth < 100));
find('picture').addEventListener('error', () => find('picture').hasAttribute('src') && say('The image cannot be shown.', true));

await alone(async () => {
  state = await ask('state');
  list = LISTS.find((name) => state.queues[name]) ?? list; // the first one in which something waits
  await refresh();
});
