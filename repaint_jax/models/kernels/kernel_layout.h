// Kernels as oneDNN wants them.

#pragma once

#include <algorithm>
#include <array>
#include <cstring>
#include <stdexcept>

#include "onednn.h"

namespace repaint {

// How oneDNN wants a kernel: a grid of blocks [i_outer][o][i_inner], by strides over O, I, h, w.
// No strides: as it likes.
struct Layout {
  std::array<Dim, 4> strides = {};
  Dim i_outer = 1, o = 1, i_inner = 1;
  auto operator<=>(const Layout&) const = default;

  explicit Layout(const memory::desc& desc) {
    if (desc.get_format_kind() == memory::format_kind::any) return;
    const auto outer = desc.get_strides(), blocks = desc.get_inner_blks();
    const auto axes = desc.get_inner_idxs();
    std::copy_n(outer.begin(), 4, strides.begin());
    size_t n = 0;
    if (n < axes.size() && axes[n] == 1) i_outer = blocks[n++];
    if (n < axes.size() && axes[n] == 0) o = blocks[n++];
    if (n < axes.size() && axes[n] == 1) i_inner = blocks[n++];
    if (n < axes.size()) throw std::runtime_error("a layout of kernels that is not known here");
  }
};

// A kernel as JAX has it, HWIO, or turned round for the derivative by the picture: flipped in
// height and width, and with in and out exchanged. Of its channels out, a slice is packed.
template <typename T>
struct Kernel {
  const T* values;
  Dim height, width, in, out;
  bool turned;
  Dim first = 0, count = out;  // the slice

  Dim tap(Dim h, Dim w) const {
    return turned ? (height - 1 - h) * width + width - 1 - w : h * width + w;
  }
  Kernel slice(Dim from, Dim channels) const {
    return {values, height, width, in, out, turned, from, channels};
  }
  // Copies the slice's channels o0, o0 + 1, ... at (h, w) into the layout; beyond: zeros.
  void pack(const Layout& layout, Dim block, Dim h, Dim w, T* to) const {
    const Dim o0 = block * layout.o, os = std::min(layout.o, count - o0);
    const Dim step_in = turned ? 1 : out, step_out = turned ? in : 1;
    const T* from = values + tap(h, w) * in * out + (first + o0) * step_out;
    to += block * layout.strides[0] + h * layout.strides[2] + w * layout.strides[3];
    const Dim in_block = layout.i_outer * layout.i_inner;
    for (Dim i = 0; i < (in + in_block - 1) / in_block * in_block; i += layout.i_inner) {
      T* row = to + i / in_block * layout.strides[1] + i % in_block * layout.o;
      const Dim is = std::clamp<Dim>(in - i, 0, layout.i_inner);
      if (os < layout.o || is < layout.i_inner) std::fill_n(row, layout.o * layout.i_inner, T(0));
      const T* source = from + i * step_in;
      if (sizeof(T) == 2 && is == 2 && layout.i_inner == 2) {
        typedef uint32_t __attribute__((may_alias, aligned(2))) Pair;
        Pair* pairs = reinterpret_cast<Pair*>(row);
        if (turned) {
          for (Dim o = 0; o < os; ++o) pairs[o] = *reinterpret_cast<const Pair*>(source + o * in);
        } else {
          const T* next = source + out;
          for (Dim o = 0; o < os; ++o)
            pairs[o] = static_cast<uint32_t>(source[o]) | static_cast<uint32_t>(next[o]) << 16;
        }
      } else if (!turned && layout.i_inner == 1 && is == 1) {
        // The rows of a slice lie further apart than a processor foresees.
        __builtin_prefetch(source + 16 * out);
        __builtin_prefetch(source + 16 * out + 64 / sizeof(T));
        std::memcpy(row, source, os * sizeof(T));
      } else {
        for (Dim o = 0; o < os; ++o)
          for (Dim k = 0; k < is; ++k)
            row[o * layout.i_inner + k] = source[o * step_out + k * step_in];
      }
    }
  }
};

}  // namespace repaint
