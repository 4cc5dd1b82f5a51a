#!/bin/sh
# Bring the database at DATABASE_URL to the newest schema. Safe to run from several starters at once.
set -eu
cd "$(dirname "$0")"
if [ -z "${DATABASE_URL:-}" ]; then
    echo "migrate.sh: DATABASE_URL is not set; for example" >&2
    echo "  DATABASE_URL=postgresql://user:password@host:5432/database ./migrate.sh" >&2
    exit 2
fi
PATH="$PWD/.venv/bin:$PATH"
exec alembic upgrade head
