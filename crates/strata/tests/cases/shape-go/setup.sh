mkdir -p cmd pkg/x; echo "module x" > go.mod; echo sum > go.sum; echo "package main" > cmd/main.go; echo x > pkg/x/x.go; printf ".git\n*.md\n" > .dockerignore; echo r > README.md
