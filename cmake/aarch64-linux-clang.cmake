# Clang for ARM, against the C library and libstdc++ of Debian's cross compiler (aarch64-linux.cmake): GCC 12 has no
# SME.
include(${CMAKE_CURRENT_LIST_DIR}/aarch64-linux.cmake)
find_program(FERRULE_CLANG NAMES clang++-19 clang++-18 clang++ REQUIRED)
string(REPLACE "clang++" "clang" FERRULE_CLANG_C ${FERRULE_CLANG})
set(CMAKE_CXX_COMPILER ${FERRULE_CLANG})
set(CMAKE_C_COMPILER ${FERRULE_CLANG_C})
set(CMAKE_CXX_COMPILER_TARGET aarch64-linux-gnu)
set(CMAKE_C_COMPILER_TARGET aarch64-linux-gnu)
