mkdir -p node_modules/x src/node_modules src/keep src/deep/er build sub/build .git sub/.git
for f in node_modules/x/f src/node_modules/f src/a.txt src/b.tmp src/keep/c.tmp src/keep/d src/deep/er/e.tmp src/deep/er/f x.md README.md README-secret.md README-2.md sub/y.md root-only sub-root build/f sub/build/f .git/f sub/.git/f abc abbc sub/abc xonly yonly; do echo "$f" > "$f"; done
mkdir -p sub2; echo r > sub2/root-only
