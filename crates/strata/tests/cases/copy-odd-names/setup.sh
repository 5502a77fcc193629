mkdir names
echo 1 > "names/with space"; echo 2 > names/é; echo 3 > "names/new
line"; echo 4 > ./-dash; echo 5 > 'names/a$b'; echo 6 > names/'quo"te'; echo 7 > names/'back\slash'; echo 8 > 'names/a'; echo 10 > names/日本; echo 11 > 'names/*'; echo 12 > 'names/..dots'; echo 13 > 'names/trailing '
touch "names/$(printf '%0200d' 7)"
