// Convolution of NHWC pictures by oneDNN, on XLA's own threads, and its derivatives.
//
// A picture is cut into bands of rows, each of which oneDNN convolves on one thread. The cut depends
// on the shape of a picture alone, so that a picture's numbers do not depend on its batch.

#include <array>
#include <cstring>
#include <map>
#include <string>

#include "dnnl.hpp"
#include "parallel.h"

namespace ffi = xla::ffi;
using dnnl::memory;
using repaint::Dim;

// Of the OpenMP that oneDNN brings; the compiler's own may be another.
extern "C" int omp_get_max_threads();
extern "C" void omp_set_num_threads(int);

namespace {

constexpr Dim kBandFlops = 80'000'000;  // 0.1 to 0.8 ms
constexpr Dim kBandPixels = 32;  // each band reads the whole kernel, which is not to pay for less

// oneDNN's threads would compete with XLA's, among which the bands are shared out.
class OneThread {
 public:
  OneThread() { omp_set_num_threads(1); }
  ~OneThread() { omp_set_num_threads(before_); }

 private:
  const int before_ = omp_get_max_threads();
};

const dnnl::engine& engine() {
  static const dnnl::engine cpu(dnnl::engine::kind::cpu, 0);
  return cpu;
}

dnnl::primitive_attr own_scratchpad() {
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  return attributes;
}

void* scratchpad(size_t bytes) {
  thread_local repaint::Scratch scratch;
  return scratch.of_size(bytes);
}

memory::data_type type_of(const ffi::AnyBuffer& buffer) {
  return buffer.element_type() == ffi::BF16 ? memory::data_type::bf16 : memory::data_type::f32;
}

size_t size_of(memory::data_type type) { return type == memory::data_type::f32 ? 4 : 2; }

struct Picture {
  Dim height, width, channels;
  auto operator<=>(const Picture&) const = default;
  Dim row() const { return width * channels; }
  Dim size() const { return height * row(); }
};

struct Geometry {
  memory::data_type type;
  Picture in, out;
  Dim kernel_height, kernel_width, stride, top, bottom, left, right;
  auto operator<=>(const Geometry&) const = default;

  // The rows first, ..., first + count - 1 of the output, and the rows of the input they need.
  std::pair<Geometry, Dim> band(Dim first, Dim count) const {
    const Dim start = first * stride - top, stop = start + (count - 1) * stride + kernel_height;
    Geometry part = *this;
    part.top = std::max<Dim>(0, -start);
    part.bottom = std::max<Dim>(0, stop - in.height);
    part.in.height = stop - start - part.top - part.bottom;
    part.out.height = count;
    return {part, std::max<Dim>(0, start)};
  }

  Dim rows_of_a_band() const {
    const Dim flops = 2 * kernel_height * kernel_width * in.channels * out.size();
    const Dim pixels = out.height * out.width;
    Dim bands = 1;
    while (flops > bands * kBandFlops / 2 && pixels >= 2 * bands * kBandPixels && bands < out.height)
      bands *= 2;
    return (out.height + bands - 1) / bands;
  }
};

// How oneDNN wants a kernel: a grid of blocks [i_outer][o][i_inner], by strides over O, I, h, w.
struct Layout {
  std::array<Dim, 4> strides;
  Dim i_outer = 1, o = 1, i_inner = 1;
  auto operator<=>(const Layout&) const = default;

  explicit Layout(const memory::desc& desc) {
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
// height and width, and with in and out exchanged.
template <typename T>
struct Kernel {
  const T* values;
  Dim height, width, in, out;
  bool turned;

  Dim tap(Dim h, Dim w) const {
    return turned ? (height - 1 - h) * width + width - 1 - w : h * width + w;
  }
  // Copies the blocks of channels o0, o0 + 1, ... at (h, w) into the layout; beyond: zeros.
  void pack(const Layout& layout, Dim block, Dim h, Dim w, T* to) const {
    const Dim o0 = block * layout.o, os = std::min(layout.o, out - o0);
    const Dim step_in = turned ? 1 : out, step_out = turned ? in : 1;
    const T* from = values + tap(h, w) * in * out + o0 * step_out;
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
      } else {
        for (Dim o = 0; o < os; ++o)
          for (Dim k = 0; k < is; ++k)
            row[o * layout.i_inner + k] = source[o * step_out + k * step_in];
      }
    }
  }
};

using Desc = dnnl::convolution_forward::primitive_desc;
using Tag = memory::format_tag;

memory::desc as_onednn_likes(const memory::desc& weights) {
  return {weights.get_dims(), weights.get_data_type(), Tag::any};
}

// With kernels laid out as in `weights`; empty where oneDNN has no fast code for that.
Desc described(const Geometry& g, const memory::desc& weights) {
  auto picture = [&](const Picture& p) {
    return memory::desc({1, p.channels, p.height, p.width}, g.type, Tag::nhwc);
  };
  const Desc made(engine(), dnnl::prop_kind::forward_inference,
                  dnnl::algorithm::convolution_direct, picture(g.in), weights,
                  {{g.out.channels}, g.type, Tag::x}, picture(g.out), {g.stride, g.stride},
                  {g.top, g.left}, {g.bottom, g.right}, own_scratchpad(), true);
  const std::string code = made ? made.impl_info_str() : "";
  const bool slow = code.starts_with("ref") || code.find("gemm") != code.npos;
  return slow && weights.get_format_kind() != memory::format_kind::any ? Desc() : made;
}

class Convolution {
 public:
  // With kernels laid out as in `weights`, or as oneDNN likes them.
  Convolution(const Geometry& g, const memory::desc& weights)
      : Convolution([&] {
          const Desc wanted = described(g, weights);
          return wanted ? wanted : described(g, as_onednn_likes(weights));
        }()) {}

  const memory::desc& weights_desc() const { return weights_desc_; }

  void operator()(const void* x, const void* kernel, const void* bias, void* y) {
    src_.set_data_handle(const_cast<void*>(x));
    weights_.set_data_handle(const_cast<void*>(kernel));
    bias_.set_data_handle(const_cast<void*>(bias));
    dst_.set_data_handle(y);
    scratchpad_.set_data_handle(scratchpad(scratchpad_.get_desc().get_size()));
    dnnl::stream stream(engine());
    primitive_.execute(stream, {{DNNL_ARG_SRC, src_},
                                {DNNL_ARG_WEIGHTS, weights_},
                                {DNNL_ARG_BIAS, bias_},
                                {DNNL_ARG_DST, dst_},
                                {DNNL_ARG_SCRATCHPAD, scratchpad_}});
    stream.wait();
  }

 private:
  explicit Convolution(const Desc& d)
      : weights_desc_(d.weights_desc()),
        primitive_(d),
        src_(d.src_desc(), engine(), nullptr),
        weights_(d.weights_desc(), engine(), nullptr),
        bias_(d.bias_desc(), engine(), nullptr),
        dst_(d.dst_desc(), engine(), nullptr),
        scratchpad_(d.scratchpad_desc(), engine(), nullptr) {}

  memory::desc weights_desc_;
  dnnl::convolution_forward primitive_;
  memory src_, weights_, bias_, dst_, scratchpad_;
};

// Each thread has its own, for a primitive works on one picture at a time.
Convolution& convolution(const Geometry& geometry, const memory::desc& weights) {
  thread_local std::map<std::pair<Geometry, Layout>, Convolution> made;
  const std::pair key(geometry, Layout(weights));
  auto found = made.find(key);
  if (found == made.end()) found = made.try_emplace(key, geometry, weights).first;
  return found->second;
}

// How a picture is cut, and the layout of kernels that its bands have in common.
struct Plan {
  Dim rows, bands;
  memory::desc weights;

  Plan(const Geometry& whole, bool as_they_are)
      : rows(whole.rows_of_a_band()), bands((whole.out.height + rows - 1) / rows) {
    const memory::dims dims = {whole.out.channels, whole.in.channels, whole.kernel_height,
                               whole.kernel_width};
    weights = {dims, whole.type, Tag::hwio};
    if (as_they_are) return;
    std::vector<Geometry> parts;
    for (Dim band : {bands / 2, Dim{0}, bands - 1}) {
      const Dim first = band * rows;
      parts.push_back(whole.band(first, std::min(rows, whole.out.height - first)).first);
    }
    for (const Geometry& part : parts) {  // what suits all, if there is such
      weights = described(part, as_onednn_likes(weights)).weights_desc();
      const auto fits = [&](const Geometry& other) { return bool(described(other, weights)); };
      if (std::all_of(parts.begin(), parts.end(), fits)) return;
    }
  }
};

const Plan& plan(const Geometry& whole, bool as_they_are) {
  thread_local std::map<std::pair<Geometry, bool>, Plan> made;
  return made.try_emplace({whole, as_they_are}, whole, as_they_are).first->second;
}

// The kernel as `desc` has it, in memory that this thread keeps; share(count, work) does the work.
template <typename T, typename Share>
const T* packed(const Kernel<T>& kernel, const memory::desc& desc, Share share) {
  thread_local repaint::Scratch kept;
  T* to = static_cast<T*>(kept.of_size(desc.get_size()));
  const Layout layout(desc);
  const Dim taps = kernel.height * kernel.width;
  share((kernel.out + layout.o - 1) / layout.o * taps, [=](Dim i) {
    const Dim tap = i % taps;
    kernel.pack(layout, i / taps, tap / kernel.width, tap % kernel.width, to);
  });
  return to;
}

template <typename T>
void convolve(ffi::ThreadPool& pool, const Geometry& whole, Dim batch, const T* x,
              const Kernel<T>& kernel, const T* bias, T* y) {
  const bool as_they_are = whole.type == memory::data_type::f32 && !kernel.turned;
  const Plan& cut = plan(whole, as_they_are);
  auto among_all = [&](Dim count, auto work) { repaint::in_parallel(pool, count, work); };
  auto alone = [](Dim count, auto work) {
    for (Dim i = 0; i < count; ++i) work(i);
  };
  const T* common = as_they_are ? kernel.values : packed(kernel, cut.weights, among_all);
  among_all(batch * cut.bands, [=, &cut, &whole](Dim i) {
    const OneThread guard;
    const Dim picture = i / cut.bands, first = i % cut.bands * cut.rows;
    const auto [band, start] = whole.band(first, std::min(cut.rows, whole.out.height - first));
    Convolution& convolution = ::convolution(band, cut.weights);
    const auto& desc = convolution.weights_desc();
    const T* weights = desc == cut.weights ? common : packed(kernel, desc, alone);
    convolution(x + picture * whole.in.size() + start * whole.in.row(), weights, bias,
                y + picture * whole.out.size() + first * whole.out.row());
  });
}

template <typename Work>
ffi::Error told(Work work) {
  try {
    work();
  } catch (const std::exception& error) {
    return ffi::Error::Internal(std::string("oneDNN: ") + error.what());
  }
  return ffi::Error::Success();
}

// x [B, H, W, in], kernel HWIO, bias [out] -> y; with the kernel turned, in and out change places.
ffi::Error forward(ffi::ThreadPool pool, ffi::AnyBuffer x, ffi::AnyBuffer kernel,
                   ffi::AnyBuffer bias, ffi::Result<ffi::AnyBuffer> y, int64_t stride,
                   int64_t before, int64_t after, bool turned) {
  const auto in = x.dimensions(), out = y->dimensions(), k = kernel.dimensions();
  const Geometry whole{type_of(x), {in[1], in[2], in[3]}, {out[1], out[2], out[3]}, k[0], k[1],
                       stride, before, after, before, after};
  auto run = [&]<typename T>(T) {
    convolve<T>(pool, whole, in[0], static_cast<const T*>(x.untyped_data()),
                {static_cast<const T*>(kernel.untyped_data()), k[0], k[1], in[3], out[3], turned},
                static_cast<const T*>(bias.untyped_data()), static_cast<T*>(y->untyped_data()));
  };
  return told([&] { whole.type == memory::data_type::f32 ? run(float()) : run(uint16_t()); });
}

class Product {
 public:
  // A^T B for A [pixels, in] and B [pixels, out].
  Product(memory::data_type type, Dim pixels, Dim in, Dim out)
      : Product(Desc(engine(), {{in, pixels}, type, memory::dims{1, in}},
                     {{pixels, out}, type, memory::dims{out, 1}},
                     {{in, out}, type, memory::dims{out, 1}}, own_scratchpad())) {}

  void operator()(void* a, void* b, void* product) {
    a_.set_data_handle(a);
    b_.set_data_handle(b);
    product_.set_data_handle(product);
    scratchpad_.set_data_handle(scratchpad(scratchpad_.get_desc().get_size()));
    dnnl::stream stream(engine());
    primitive_.execute(stream, {{DNNL_ARG_SRC, a_},
                                {DNNL_ARG_WEIGHTS, b_},
                                {DNNL_ARG_DST, product_},
                                {DNNL_ARG_SCRATCHPAD, scratchpad_}});
    stream.wait();
  }

 private:
  using Desc = dnnl::matmul::primitive_desc;
  explicit Product(const Desc& d)
      : primitive_(d),
        a_(d.src_desc(), engine(), nullptr),
        b_(d.weights_desc(), engine(), nullptr),
        product_(d.dst_desc(), engine(), nullptr),
        scratchpad_(d.scratchpad_desc(), engine(), nullptr) {}

  dnnl::matmul primitive_;
  memory a_, b_, product_, scratchpad_;
};

// The derivative by the kernel of a convolution without padding and strides: a product of matrices
// for each tap. x [B, H, W, in] and dy [B, H, W, out], with zeros in the last rows and columns that
// the kernel does not reach, so that pictures and rows can follow each other as if they were one.
ffi::Error by_kernel(ffi::ThreadPool pool, ffi::AnyBuffer x, ffi::AnyBuffer dy,
                     ffi::Result<ffi::AnyBuffer> dkernel) {
  const auto in = x.dimensions(), k = dkernel->dimensions();
  const Dim height = k[0], width = k[1], channels = k[2], out = k[3];
  const Dim pixels = in[0] * in[1] * in[2] - (height - 1) * in[2] - (width - 1);
  const auto type = type_of(x);
  const size_t bytes = size_of(type);
  auto at = [](const ffi::AnyBuffer& buffer, size_t byte) {
    return static_cast<char*>(buffer.untyped_data()) + byte;
  };
  return told([&] {
    repaint::in_parallel(pool, height * width, [=, product = *dkernel, columns = in[2]](Dim tap) {
      const OneThread guard;
      thread_local std::map<std::array<Dim, 4>, Product> made;
      const std::array<Dim, 4> key = {static_cast<Dim>(type), pixels, channels, out};
      auto found = made.find(key);
      if (found == made.end()) {
        if (made.size() > 256) made.clear();  // batches of ever other sizes
        found = made.try_emplace(key, type, pixels, channels, out).first;
      }
      const Dim shift = tap / width * columns + tap % width;
      found->second(at(x, shift * channels * bytes), at(dy, 0),
                    at(product, tap * channels * out * bytes));
    });
  });
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(RepaintConvolution, forward,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Ret<ffi::AnyBuffer>()
                                  .Attr<int64_t>("stride")
                                  .Attr<int64_t>("before")
                                  .Attr<int64_t>("after")
                                  .Attr<bool>("turned"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(RepaintKernelGradient, by_kernel,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Ret<ffi::AnyBuffer>());
