// The page at `/`: sends a drawing or an image to the prediction path, and shows the answer. Asks no other server.

const MODEL = 'model.json'; // the model's name
const INK_WIDTH = 22; // of 280 pixels of paper, about as thick as the strokes of MNIST
const PEN_STEP = 10; // pixels of one arrow key
// MNIST fits each digit into 20 of 28 pixels, its centre of mass in the middle; here ten times as large.
const SIDE = 280;
const DIGIT = 200;

const find = (id) => document.getElementById(id);
const paper = find('paper');
const ink = paper.getContext('2d', { willReadFrequently: true });
const pen = { down: false, x: paper.width / 2, y: paper.height / 2 };
let model = null;
let sheet = null; // the gallery's pictures of one version: { version, image, side, columns }
let pending = null; // the request that is not answered yet
let last = null; // what was sent last: [the image, whether it is dark on a light background]

function show(view) {
  for (const id of ['paper', 'picture', 'film']) find(id).hidden = id !== view;
  find('shoot').hidden = true;
  if (view !== 'film') stopCamera();
}

function wipe() {
  ink.fillStyle = '#fff';
  ink.fillRect(0, 0, paper.width, paper.height);
}

function clear() {
  pending?.abort();
  last = null;
  find('locked').hidden = true;
  wipe();
  show('paper');
  find('result').hidden = true;
  say('Nothing was sent yet.');
}

function say(text, isError = false) {
  find('status').textContent = text;
  find('status').classList.toggle('error', isError);
}

function line(x, y) {
  ink.strokeStyle = '#000';
  ink.lineWidth = INK_WIDTH;
  ink.lineCap = ink.lineJoin = 'round';
  ink.beginPath();
  ink.moveTo(pen.x, pen.y);
  ink.lineTo(x, y);
  ink.stroke();
  Object.assign(pen, { x, y });
}

function at(event) {
  const box = paper.getBoundingClientRect();
  return [((event.clientX - box.left) * paper.width) / box.width, ((event.clientY - box.top) * paper.height) / box.height];
}

/** The box of the ink and its centre of mass, or null if there is none. */
function inked() {
  const { data, width, height } = ink.getImageData(0, 0, paper.width, paper.height);
  let [left, top, right, bottom, mass, x, y] = [width, height, -1, -1, 0, 0, 0];
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < width; column++) {
      const dark = 255 - data[4 * (row * width + column)];
      if (!dark) continue;
      [left, right, top, bottom] = [Math.min(left, column), Math.max(right, column), Math.min(top, row), Math.max(bottom, row)];
      mass += dark;
      x += dark * column;
      y += dark * row;
    }
  }
  return mass ? { left, top, width: right - left + 1, height: bottom - top + 1, x: x / mass, y: y / mass } : null;
}

/** The drawing, placed as MNIST places its digits: a PNG, or null if nothing is drawn. */
function drawing() {
  const box = inked();
  if (!box) return null;
  const scale = DIGIT / Math.max(box.width, box.height);
  const small = new OffscreenCanvas(SIDE, SIDE);
  const context = small.getContext('2d');
  context.fillStyle = '#fff';
  context.fillRect(0, 0, SIDE, SIDE);
  context.imageSmoothingQuality = 'high';
  const clip = (value, size) => Math.min(Math.max(value, 0), SIDE - size);
  const [width, height] = [box.width * scale, box.height * scale];
  const left = clip(SIDE / 2 - (box.x - box.left) * scale, width);
  const top = clip(SIDE / 2 - (box.y - box.top) * scale, height);
  context.drawImage(paper, box.left, box.top, box.width, box.height, left, top, width, height);
  return small.convertToBlob({ type: 'image/png' });
}

async function predictDrawing() {
  const blob = await drawing();
  if (blob) await predict(blob, true);
}

async function predictFile(blob) {
  const picture = find('picture');
  URL.revokeObjectURL(picture.src);
  picture.src = URL.createObjectURL(blob);
  show('picture');
  const isLight = await hasLightEdge(blob);
  if (isLight !== null) find('dark').checked = isLight;
  await predict(blob, find('dark').checked);
}

/** Whether the edge of an image is light, so that what it shows is dark; null if this browser cannot read it. */
async function hasLightEdge(blob) {
  const bitmap = await createImageBitmap(blob).catch(() => null);
  if (!bitmap) return null;
  const side = 16;
  const context = new OffscreenCanvas(side, side).getContext('2d');
  context.fillStyle = '#fff';
  context.fillRect(0, 0, side, side);
  context.drawImage(bitmap, 0, 0, side, side);
  const { data } = context.getImageData(0, 0, side, side);
  const bright = [];
  for (let place = 0; place < side * side; place++) {
    const isEdge = [0, side - 1].includes(place % side) || [0, side - 1].includes(Math.floor(place / side));
    if (isEdge) bright.push(data[4 * place] + data[4 * place + 1] + data[4 * place + 2]);
  }
  return bright.reduce((sum, value) => sum + value, 0) / bright.length > (3 * 255) / 2;
}

async function predict(blob, darkOnLight) {
  pending?.abort();
  const request = (pending = new AbortController());
  last = [blob, darkOnLight];
  say('Waiting for the answer.');
  try {
    await meet(request.signal);
    const headers = { 'Content-Type': blob.type || 'application/octet-stream' };
    headers['X-Polarity'] = darkOnLight ? 'dark-on-light' : 'light-on-dark';
    const path = `predictions/${encodeURIComponent(model.name)}`;
    const answer = await ask(path, request.signal, { method: 'POST', body: blob, headers });
    const pictures = await thumbnails(answer.model.version, request.signal);
    if (request.signal.aborted) return; // another image was sent meanwhile
    tell(answer, pictures);
    say('Answered.');
  } catch (error) {
    if (request.signal.aborted) return;
    find('result').hidden = true;
    say(error.message, true);
  }
}

/** A response of this server, with the key if one was given. */
async function load(path, signal, { headers = {}, ...options } = {}) {
  const key = find('key').value.trim();
  if (key) headers.Authorization = `Bearer ${key}`;
  try {
    return await fetch(path, { ...options, headers, signal });
  } catch (error) {
    throw new Error(`The server cannot be reached: ${error.message}`);
  }
}

/** The JSON of a response; throws the reason that the server gives. */
async function ask(path, signal, options) {
  const response = await load(path, signal, options);
  find('locked').hidden = response.status !== 401;
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(`Error ${response.status}: ${answer.error?.message ?? response.statusText}`);
  return answer;
}

async function meet(signal) {
  model ??= await ask(MODEL, signal);
  find('name').textContent = document.title = model.name;
}

function tell(answer, pictures) {
  find('label').textContent = answer.label;
  find('label').classList.toggle('unknown', answer.unknown);
  find('distance').textContent = distanceText(answer, 'distance', 'no neighbour');
  find('features-distance').textContent = distanceText(answer, 'features_distance', 'not known of this model');
  find('version').textContent = answer.model.version;
  find('neighbours').replaceChildren(...answer.neighbours.map((each) => neighbour(each, pictures)));
  find('result').hidden = false;
}

/** A distance of an answer, and whether it made the image unknown; archives from before features have none of these. */
function distanceText(answer, name, missing) {
  if (answer[name] == null) return missing;
  return answer[name].toFixed(4) + (answer.unknown_by?.includes(name) ? ' (too far)' : '');
}

function neighbour({ label, distance, index }, pictures) {
  const item = document.createElement('li');
  if (pictures) {
    const { image, side, columns } = pictures;
    const canvas = Object.assign(document.createElement('canvas'), { width: side, height: side });
    const [x, y] = [(index % columns) * side, Math.floor(index / columns) * side];
    canvas.getContext('2d').drawImage(image, x, y, side, side, 0, 0, side, side);
    canvas.setAttribute('role', 'img');
    canvas.setAttribute('aria-label', `Gallery image ${index}`);
    item.append(canvas);
  }
  item.append(`${label} (${distance.toFixed(3)})`);
  return item;
}

/** The gallery's small pictures of a version, or null if its archive has none. */
async function thumbnails(version, signal) {
  if (sheet?.version === version) return sheet;
  const path = `thumbnails/${encodeURIComponent(version)}`;
  try {
    const [layout, image] = await Promise.all([load(`${path}.json`, signal), load(`${path}.webp`, signal)]);
    if (!layout.ok || !image.ok) return null;
    const { side, columns } = await layout.json();
    sheet = { version, side, columns, image: await createImageBitmap(await image.blob()) };
    return sheet;
  } catch {
    return null; // the answer is shown without them
  }
}

async function startCamera() {
  if (!navigator.mediaDevices) {
    say('The camera cannot be used: browsers allow it over HTTPS, or on this machine itself.', true);
    return;
  }
  try {
    const film = find('film');
    film.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: 'environment' } });
    show('film');
    await film.play(); // before it plays it has no size
    find('shoot').hidden = false;
  } catch (error) {
    say(`The camera cannot be used: ${error.message ?? error}`, true);
  }
}

function stopCamera() {
  for (const track of find('film').srcObject?.getTracks() ?? []) track.stop();
  find('film').srcObject = null;
}

async function shoot() {
  const film = find('film');
  const side = Math.min(film.videoWidth, film.videoHeight);
  const square = new OffscreenCanvas(side, side);
  const [x, y] = [(film.videoWidth - side) / 2, (film.videoHeight - side) / 2];
  square.getContext('2d').drawImage(film, x, y, side, side, 0, 0, side, side);
  await predictFile(await square.convertToBlob({ type: 'image/png' }));
}

function imageOf(transfer) {
  return [...(transfer?.files ?? [])].find((file) => file.type.startsWith('image/'));
}

paper.addEventListener('pointerdown', (event) => {
  paper.setPointerCapture(event.pointerId);
  const [x, y] = at(event);
  Object.assign(pen, { down: true, x, y });
  line(x, y);
});
paper.addEventListener('pointermove', (event) => {
  if (pen.down && event.buttons) line(...at(event));
});
for (const end of ['pointerup', 'pointercancel']) {
  paper.addEventListener(end, () => {
    pen.down = false;
    predictDrawing();
  });
}
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
paper.addEventListener('keydown', (event) => {
  if (event.key === ' ') {
    event.preventDefault();
    pen.down = !pen.down;
    if (pen.down) line(pen.x, pen.y);
    else predictDrawing();
  } else if (ARROWS[event.key]) {
    event.preventDefault();
    const [right, down] = ARROWS[event.key];
    const x = Math.min(Math.max(pen.x + right * PEN_STEP, 0), paper.width);
    const y = Math.min(Math.max(pen.y + down * PEN_STEP, 0), paper.height);
    if (pen.down) line(x, y);
    else Object.assign(pen, { x, y });
    say(`The pen is ${pen.down ? 'down' : 'up'}, at ${Math.round((100 * x) / paper.width)} % from the left and ${Math.round((100 * y) / paper.height)} % from the top.`);
  }
});
find('locked').addEventListener('submit', (event) => {
  event.preventDefault();
  if (last) predict(...last);
});
find('dark').addEventListener('change', ({ target }) => {
  if (last && !find('picture').hidden) predict(last[0], target.checked);
});
find('clear').addEventListener('click', clear);
find('camera').addEventListener('click', startCamera);
find('shoot').addEventListener('click', shoot);
find('file').addEventListener('change', ({ target }) => {
  if (target.files[0]) predictFile(target.files[0]);
  target.value = ''; // the same file can be chosen again
});
addEventListener('paste', (event) => {
  const image = imageOf(event.clipboardData);
  if (image) predictFile(image);
  else say('There is no image to paste.', true);
});
addEventListener('dragover', (event) => {
  event.preventDefault();
  find('drop').classList.add('over');
});
addEventListener('dragleave', () => find('drop').classList.remove('over'));
addEventListener('drop', (event) => {
  event.preventDefault();
  find('drop').classList.remove('over');
  const image = imageOf(event.dataTransfer);
  if (image) predictFile(image);
  else say('That is no image file.', true);
});
wipe();
meet().catch(() => {}); // asked again with the first image
