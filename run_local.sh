#!/usr/bin/env bash
# ./run_local.sh        makes .venv, installs, and runs the whole main job on the sample world
# ./run_local.sh test   makes .venv, installs, and runs lint, type check and the default tests
set -euo pipefail
cd "$(dirname "$0")"

python=${PYTHON:-python3}
venv=.venv
question=country-libya.calling_code # shown at the end of the sample

install() {
    # installed again only when setup.py or the interpreter has changed
    local wanted
    wanted=$("$python" -c 'import hashlib, sys; print(sys.version, hashlib.sha256(open("setup.py", "rb").read()).hexdigest())')
    if [ -f "$venv/.installed" ] && [ "$(cat "$venv/.installed")" = "$wanted" ]; then
        return
    fi
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11) and "rag-beam needs Python 3.11 or later; set PYTHON")'
    echo "installing into $venv (torch is large: some minutes)"
    "$python" -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --upgrade pip
    # setuptools warns about editable installs as such
    PYTHONWARNINGS=ignore "$venv/bin/python" -m pip install --quiet --editable '.[test]'
    echo "$wanted" > "$venv/.installed"
}

run_tests() {
    "$venv/bin/ruff" check .
    "$venv/bin/ruff" format --check .
    "$venv/bin/mypy"
    "$venv/bin/python" -m pytest -m "not slow" --numprocesses auto --maxprocesses 4 --dist loadfile "$@"
}

run_sample() {
    "$venv/bin/python" -m examples.compose --output examples/world
    "$venv/bin/rag-beam" run examples/run.yaml "$@"
    echo
    echo "One answer with its provenance: rag-beam inspect out/sample/answers_token --question_id $question"
    echo
    "$venv/bin/rag-beam" inspect out/sample/answers_token --question_id "$question"
}

install
case "${1:-}" in
    test) shift; run_tests "$@" ;;
    *) run_sample "$@" ;;
esac
