# SPDX-License-Identifier: MIT
"""The module alone; with the programs where `contrib/package wheel` has put them into weightfs/bin."""
import os

from setuptools import Distribution, setup

PROGRAMS = ["wfctl", "weightfs"]


class WithPrograms(Distribution):
    def has_ext_modules(self):
        return True


def options():
    """Nothing for the module alone: Debian 12 builds its package without the package `wheel`, of which only a wheel has need."""
    if not os.path.exists(os.path.join(os.path.dirname(os.path.abspath(__file__)), "weightfs", "bin", PROGRAMS[0])):
        return {}
    try:
        from setuptools.command.bdist_wheel import bdist_wheel
    except ImportError:  # before setuptools 70.1
        from wheel.bdist_wheel import bdist_wheel

    class AnyPython(bdist_wheel):
        """The programs need a platform, and no particular Python."""

        def get_tag(self):
            return ("py3", "none", super().get_tag()[2])

    return {"distclass": WithPrograms, "cmdclass": {"bdist_wheel": AnyPython}, "scripts": [f"scripts/{name}" for name in PROGRAMS]}


setup(**options())
