# SPDX-License-Identifier: MIT
"""The module alone; with the programs where `contrib/package wheel` has put them into weightfs/bin."""
import os

from setuptools import Distribution, setup

try:
    from setuptools.command.bdist_wheel import bdist_wheel
except ImportError:  # before setuptools 70.1
    from wheel.bdist_wheel import bdist_wheel

WITH_PROGRAMS = os.path.exists(os.path.join(os.path.dirname(os.path.abspath(__file__)), "weightfs", "bin", "wfctl"))


class WithPrograms(Distribution):
    def has_ext_modules(self):
        return WITH_PROGRAMS


class AnyPython(bdist_wheel):
    """The programs need a platform, and no particular Python."""

    def get_tag(self):
        return ("py3", "none", super().get_tag()[2])


setup(distclass=WithPrograms, cmdclass={"bdist_wheel": AnyPython}, scripts=["scripts/wfctl", "scripts/weightfs"] if WITH_PROGRAMS else [])
