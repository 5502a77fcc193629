echo f > f; printf "Dockerfile\n.dockerignore\n" > .dockerignore
