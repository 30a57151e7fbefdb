# The project's commands. Each one sets the machine up first, as far as it needs: see tools/prepare.

PYTHON := .venv/bin/python
# Most tests wait for programs and servers: three at a time keep two cores busy.
AT_ONCE := -n 3 --dist worksteal

# Servers and packet tools live outside many users' PATH; RHEL keeps mariadbd in libexec.
export PATH := $(PATH):/usr/sbin:/sbin:/usr/libexec

.PHONY: help demo test bench lint types unit prepared clean

help:
	@echo "make demo    let a real MariaDB Galera node join another through the tunnel, and compare them"
	@echo "make test    check everything: lint, types, then every test, on real servers too"
	@echo "make bench   measure speed and cost against socat, stunnel and haproxy; writes docs/performance.md"
	@echo "             (BENCH=--quick: tiny sizes, below build/; BENCH='--gigabytes 3': that much in each run)"
	@echo "make lint    check the style of the code (ruff)"
	@echo "make types   check the types (mypy --strict)"
	@echo "make unit    run the tests that need no server"
	@echo "make clean   remove what these commands made here, .venv included"

demo:
	@tools/prepare demo
	@$(PYTHON) -m lab.demo

test: lint types
	$(PYTHON) -m pytest $(AT_ONCE)

bench:
	@tools/prepare bench
	$(PYTHON) -m bench $(BENCH)

lint: prepared
	$(PYTHON) -m ruff check .

types: prepared
	$(PYTHON) -m mypy --strict

unit: prepared
	$(PYTHON) -m pytest $(AT_ONCE) tests/unit

prepared:
	@tools/prepare test

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist src/*.egg-info
	find bench lab src tests -name __pycache__ -prune -exec rm -rf {} +
