# Clang for ARM, which has SME, where GCC 12 has not: Debian's clang-19 with the C and C++ libraries and the linker of
# its cross compiler.
include(${CMAKE_CURRENT_LIST_DIR}/aarch64-linux.cmake)
set(CMAKE_C_COMPILER clang-19)
set(CMAKE_CXX_COMPILER clang++-19)
set(CMAKE_C_COMPILER_TARGET aarch64-linux-gnu)
set(CMAKE_CXX_COMPILER_TARGET aarch64-linux-gnu)
# libstdc++ 12 uses within itself what it tells others not to.
set(CMAKE_CXX_FLAGS_INIT -Wno-deprecated-declarations)
