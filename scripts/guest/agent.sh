#!/bin/sh
# Runs in the guest what the host leaves in the shared folder: N.sh with a first line `# SECONDS`, for N = 1, 2, ...
# Answers with N.out, and then with N.code. A file called `end` ends it.
share=$1
n=1
echo ready >"$share/ready"
while [ ! -e "$share/end" ]; do
    if [ ! -e "$share/$n.sh" ]; then
        sleep 0.2
        continue
    fi
    seconds=$(sed -n '1s/^# //p' "$share/$n.sh")
    code=0
    # What it starts in the background outlives it, and holds no file of the share.
    timeout -k 5 "$seconds" sh "$share/$n.sh" >"$share/$n.out" 2>&1 </dev/null || code=$?
    echo "$code" >"$share/$n.code.new"
    mv "$share/$n.code.new" "$share/$n.code"
    n=$((n + 1))
done
