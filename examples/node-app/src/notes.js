'use strict';

const { nanoid } = require('nanoid');

const LONGEST = 200;
const MOST = 50;

const wall = [];

function add(text) {
  const clean = String(text || '').trim().slice(0, LONGEST);
  if (!clean) return;
  wall.unshift({ id: nanoid(8), text: clean });
  wall.length = Math.min(wall.length, MOST);
}

function remove(id) {
  const at = wall.findIndex((note) => note.id === id);
  if (at >= 0) wall.splice(at, 1);
}

function all() {
  return wall;
}

add('Hello from a container that strata built.');

module.exports = { add, remove, all };
