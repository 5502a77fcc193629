mkdir -p other/sub other/skip; echo f > other/sub/f; echo s > other/skip/s; echo skip > other/.dockerignore; echo h > other/.hidden
