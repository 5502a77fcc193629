mkdir d; echo f > f; echo in > d/in; printf "setup.sh\narguments.txt\n" > .dockerignore
