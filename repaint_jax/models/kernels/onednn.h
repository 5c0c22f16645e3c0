// oneDNN on the threads of XLA, each of which works by itself.

#pragma once

#include <stdexcept>
#include <string>

#include "dnnl.hpp"
#include "parallel.h"

// Of the OpenMP that oneDNN brings; the compiler's own may be another.
extern "C" int omp_get_max_threads();
extern "C" void omp_set_num_threads(int);

namespace repaint {

using dnnl::memory;

// oneDNN's threads would compete with XLA's, among which the bands are shared out.
class OneThread {
 public:
  OneThread() { omp_set_num_threads(1); }
  ~OneThread() { omp_set_num_threads(before_); }

 private:
  const int before_ = omp_get_max_threads();
};

inline const dnnl::engine& engine() {
  static const dnnl::engine cpu(dnnl::engine::kind::cpu, 0);
  return cpu;
}

inline dnnl::primitive_attr own_scratchpad() {
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  return attributes;
}

inline void* scratchpad(size_t bytes) {
  thread_local Scratch scratch;
  return scratch.of_size(bytes);
}

inline memory::data_type type_of(const xla::ffi::AnyBuffer& buffer) {
  return buffer.element_type() == xla::ffi::BF16 ? memory::data_type::bf16 : memory::data_type::f32;
}

inline size_t size_of(memory::data_type type) { return type == memory::data_type::f32 ? 4 : 2; }

template <typename Work>
xla::ffi::Error told(Work work) {
  try {
    work();
  } catch (const std::exception& error) {
    return xla::ffi::Error::Internal(std::string("oneDNN: ") + error.what());
  }
  return xla::ffi::Error::Success();
}

}  // namespace repaint
