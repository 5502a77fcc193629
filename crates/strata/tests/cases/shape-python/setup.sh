mkdir -p app/sub; echo flask > requirements.txt; echo 1 > app/main.py; echo 2 > app/sub/x.py; printf "#!/bin/sh\nexec \"\$@\"\n" > docker-entrypoint.sh
