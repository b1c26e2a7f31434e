"""The program's imports stay light: the SDK's services are loaded when they are used."""

import subprocess
import sys

from mocks import ROOT


def output(code):
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout


def test_importing_the_program_loads_no_service():
    assert "services loaded: none" in output("from infra.import_time import main; main()")


def test_a_service_that_is_loaded_is_seen():
    code = "import pulumi_aws as aws; aws.s3.Bucket; from infra.import_time import main; main()"
    assert "services loaded: none" not in output(code)


def test_the_configuration_needs_no_sdk():
    """The cost estimate and the reference page read it without Pulumi."""
    code = (
        "import sys, infra.configuration; print([name for name in sys.modules if name.startswith('pulumi')])"
    )
    assert output(code).strip() == "[]"
