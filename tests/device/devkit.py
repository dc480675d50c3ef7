# SPDX-License-Identifier: MIT
"""What the tests of device memory begin with: a driver with a device, a GPU's or the double's."""
from weightfs.cuda import CudaError, Driver


def find_driver():
    """(the driver, "") or (None, why there is none)."""
    try:
        driver = Driver()
        return (driver, "") if driver.device_count() else (None, "the CUDA driver has no device")
    except CudaError as e:
        return None, str(e)
