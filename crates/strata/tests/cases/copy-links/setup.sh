mkdir -p links/d
echo f > links/f
ln -s f links/to-file
ln -s d links/to-dir
ln -s /nowhere links/dangling
echo in > links/d/in
