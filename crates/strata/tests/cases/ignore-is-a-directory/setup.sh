mkdir .dockerignore && echo x > .dockerignore/x
