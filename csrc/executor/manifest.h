// The manifest of a bundle, as sdk/bundle.py writes it: what the bundle is for, its files and their hashes.
#ifndef FERRULE_EXECUTOR_MANIFEST_H
#define FERRULE_EXECUTOR_MANIFEST_H

#include <map>
#include <string>

namespace ferrule::executor {

struct Manifest {
  std::string main;                          // the program's file, relative to the bundle's folder
  double min_cosine;                         // the recipe's bound for the proof inputs
  std::map<std::string, std::string> files;  // path relative to the folder -> SHA-256 in hexadecimal digits
};

constexpr size_t kMostFiles = 10000;
constexpr size_t kMostManifestBytes = 4 << 20;

// Throws Error: FER-NAT-009 for a text that is no manifest of this schema, or was changed; FER-NAT-010 for
// another target; FER-NAT-012 for a path that leaves the folder. name: of the file, for messages.
Manifest read_manifest(const std::string& text, const std::string& name);

}  // namespace ferrule::executor

#endif
