#!/bin/bash
# builds the extension in this worktree and puts it where PYTHONPATH=python finds it
set -e
cd /tmp/wt/five
cargo build 2>&1 | grep -E "^(error|warning)" -A9 | head -60
cp target/debug/libbelljar.so python/belljar/_belljar.so
