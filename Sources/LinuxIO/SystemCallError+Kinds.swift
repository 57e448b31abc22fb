import Glibc

/// The reasons that a caller treats differently.
extension SystemCallError {
    package var isMissing: Bool { code == ENOENT || code == ENODEV || code == ENXIO }
    package var isForbidden: Bool { code == EPERM || code == EACCES }
    package var isBusy: Bool { code == EBUSY || code == EEXIST }
    package var isAddressInUse: Bool { code == EADDRINUSE }
}
