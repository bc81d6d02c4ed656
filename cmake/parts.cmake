# What FERRULE_OPS and FERRULE_KERNELS leave out: copies of the two tables without those rows, and shorter lists of sources.

# All names in rows MACRO(name, ...) of a table.
function(ferrule_read_names table macro result)
  file(READ ${table} text)
  string(REGEX MATCHALL "\n${macro}\\([a-z0-9_]+" rows "${text}")
  list(TRANSFORM rows REPLACE "\n${macro}\\(" "")
  list(REMOVE_DUPLICATES rows)
  set(${result} ${rows} PARENT_SCOPE)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${table})
endfunction()

# Those of `all` that are not in `kept`; an empty `kept` keeps all. `option` is named where it holds an unknown name.
function(ferrule_find_left_out option all kept result)
  foreach(name ${kept})
    if(NOT name IN_LIST all)
      message(FATAL_ERROR "${option} names ${name}; there are: ${all}")
    endif()
  endforeach()
  set(left_out)
  if(kept)
    set(left_out ${all})
    list(REMOVE_ITEM left_out ${kept})
  endif()
  set(${result} ${left_out} PARENT_SCOPE)
endfunction()

# A copy of csrc/`table` under `folder`, in which the rows MACRO(name...) of what is left out are `replacement`(name), or
# absent where that is "".
function(ferrule_copy_table table folder macro left_out replacement)
  file(READ csrc/${table} text)
  foreach(name ${left_out})
    if(replacement)
      string(REGEX REPLACE "\n${macro}\\(${name}[,)]" "\n${replacement}(${name})" text "${text}")
    else()
      string(REGEX REPLACE "\n${macro}\\(${name},[^)\n]*\\)" "" text "${text}")
    endif()
  endforeach()
  file(CONFIGURE OUTPUT ${folder}/${table} CONTENT "${text}" @ONLY)
endfunction()

# The name whose file or folder this is: conv_depthwise.cpp belongs to conv, attention/ to attention_prefill and
# attention_decode. "" where it belongs to no name of `all`.
function(ferrule_find_owner part all result)
  while(part AND NOT part IN_LIST all)
    if(part MATCHES "_")
      string(REGEX REPLACE "_[^_]*$" "" part "${part}")
    else()
      set(part "")
    endif()
  endwhile()
  set(${result} "${part}" PARENT_SCOPE)
endfunction()
