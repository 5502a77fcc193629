mkdir -p lead trail sub/trail sub/lead a/b a/c dir/y w/z/k m/n1 m/o
for f in lead/f trail/f sub/trail/f sub/lead/f deep.txt sub/deep.txt 1.log keep.log sub/1.log a/b/f a/b/back a/c/f dir/x dir/y/k dotted qax qaax ry sy spaced '#hash' w/z/k/f w/f v u m/n1/f m/o/f m/nf m/of; do echo "$f" > "$f"; done
ln -s a link
