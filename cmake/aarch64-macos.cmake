# Zig's compiler (ziglang from PyPI) for macOS on ARM, from any system; FERRULE_ZIG is its path. What it builds can be
# linked by an app for macOS, but not run here.
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES FERRULE_ZIG)
set(CMAKE_SYSTEM_NAME Darwin)
set(CMAKE_SYSTEM_PROCESSOR arm64)
set(CMAKE_CXX_COMPILER ${FERRULE_ZIG} c++)
set(CMAKE_CXX_COMPILER_TARGET aarch64-macos.12.0)
set(CMAKE_OSX_SYSROOT "")
set(CMAKE_OSX_ARCHITECTURES "")
set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)
set(CMAKE_CXX_ARCHIVE_CREATE "<CMAKE_AR> ar --format=darwin qcS <TARGET> <OBJECTS>")
set(CMAKE_CXX_ARCHIVE_FINISH "<CMAKE_AR> ranlib <TARGET>")
set(CMAKE_AR ${FERRULE_ZIG})
set(CMAKE_INSTALL_NAME_TOOL :)
