"""Imported by Python before anything else, in processes that the runner of the defects starts, and in those they start."""

import os

if name := os.environ.get("CPC_TEST_DEFECT"):
    from tests.defects import catalogue

    catalogue.install(name)
