'use strict';

const path = require('path');
const express = require('express');
const notes = require('./notes');

const PORT = 3000;
const app = express();

app.set('view engine', 'ejs');
app.set('views', path.join(__dirname, '..', 'views'));
app.use(express.static(path.join(__dirname, '..', 'public')));
app.use(express.urlencoded({ extended: false, limit: '4kb' }));

app.get('/', (_request, response) => {
  response.render('wall', { title: 'Notes', notes: notes.all() });
});

app.post('/notes', (request, response) => {
  notes.add(request.body.text);
  response.redirect(303, '/');
});

app.post('/notes/:id/remove', (request, response) => {
  notes.remove(request.params.id);
  response.redirect(303, '/');
});

const server = app.listen(PORT, () => console.log(`notes: listening on port ${PORT}`));

// As process 1 of a container nobody else reacts to these.
for (const signal of ['SIGTERM', 'SIGINT']) {
  process.on(signal, () => {
    server.close(() => process.exit(0));
    server.closeAllConnections();
  });
}
