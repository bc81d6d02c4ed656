// A bundle: a folder with a manifest, a program and its proof (sdk/bundle.py writes it).
#ifndef FERRULE_EXECUTOR_BUNDLE_H
#define FERRULE_EXECUTOR_BUNDLE_H

#include <string>

#include "executor/manifest.h"

namespace ferrule::executor {

// The manifest of the folder, after a look at every file below it: those that the manifest names and no
// other, each regular and with its hash. Throws Error: as read_manifest does, and FER-NAT-011 for the files.
Manifest verify_bundle(const std::string& folder);

}  // namespace ferrule::executor

#endif
