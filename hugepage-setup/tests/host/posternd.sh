#!/bin/sh
# Stands for the daemon in tests: what `posternd needs FILE` tells lies beside FILE.
test "$1" = needs || exit 9
case "$2" in
    *silent.toml) exit 3 ;;
    *foreign.toml) echo '{"cores": "all"}' ;;
    *bad.toml)
        echo "posternd: the configuration cannot be used" >&2
        echo "$2:2:1: unknown key \"sessoins\"" >&2
        exit 2
        ;;
    *) cat "${2%.toml}.needs.json" ;;
esac
