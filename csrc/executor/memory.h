// Memory of a program's arrays while it is opened: what is let go is used again, what stays lies together.
#ifndef FERRULE_EXECUTOR_MEMORY_H
#define FERRULE_EXECUTOR_MEMORY_H

#include <stddef.h>

#include <list>
#include <memory>

namespace ferrule::executor {

// Lends memory to one array after another. New pages cost more than reading a file into them.
class Lender {
 public:
  // FERRULE_ALIGNMENT-aligned; the memory is lent again after the last copy has gone. Throws Error
  // FER-NAT-006.
  std::shared_ptr<unsigned char> lend(size_t bytes);

 private:
  struct Block {
    std::shared_ptr<unsigned char> memory;  // others hold it while it is lent
    size_t bytes;
  };
  std::list<Block> blocks_;
};

// Places arrays side by side in blocks that are large enough for huge pages. A block lives as long as one of
// its arrays.
class Region {
 public:
  explicit Region(size_t expected);  // bytes of all arrays, about
  // FERRULE_ALIGNMENT-aligned. Throws Error FER-NAT-006.
  std::shared_ptr<unsigned char> take(size_t bytes);

 private:
  size_t block_bytes_;
  std::shared_ptr<unsigned char> block_;
  size_t used_ = 0, capacity_ = 0;  // of the block
};

}  // namespace ferrule::executor

#endif
