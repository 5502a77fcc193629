mkdir sub; printf "FROM case-base\nCOPY . /from-other\n" > sub/other.Dockerfile; printf "skipped\n" > sub/other.Dockerfile.dockerignore; echo s > skipped; echo all > .dockerignore; echo k > kept
