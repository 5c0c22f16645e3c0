// Convolution of NHWC pictures by oneDNN, on XLA's own threads, and its derivative by pictures.
//
// A picture is cut into bands of rows, or where the kernel is larger than it into slices of channels,
// each of which oneDNN convolves on one thread. The cut depends on the shape of a picture alone, so
// that a picture's numbers do not depend on its batch.

#include <map>
#include <string>

#include "kernel_layout.h"
#include "onednn.h"

namespace ffi = xla::ffi;
using dnnl::memory;
using namespace repaint;

namespace {

constexpr Dim kBandFlops = 80'000'000;  // 0.1 to 0.8 ms
constexpr Dim kBandPixels = 32;  // each band reads the whole kernel, which is not to pay for less
constexpr Dim kSlice = 32;       // channels whose kernel stays in a core's cache

using Tag = memory::format_tag;

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

  Geometry slice(Dim channels) const {
    Geometry part = *this;
    part.out.channels = channels;
    return part;
  }

  memory::desc kernel(Tag layout) const {
    return {{out.channels, in.channels, kernel_height, kernel_width}, type, layout};
  }

  // Such a kernel bands of rows would read too often; in 16 bits slices are slower still.
  bool has_large_kernel() const {
    const Dim kernel = kernel_height * kernel_width * in.channels * out.channels;
    return type == memory::data_type::f32 && kernel > in.size() + out.size();
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

using Desc = dnnl::convolution_forward::primitive_desc;

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
    weights = whole.kernel(Tag::hwio);
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

constexpr auto alone = [](Dim count, auto work) {
  for (Dim i = 0; i < count; ++i) work(i);
};

// The kernel as `desc` has it, in memory that this thread keeps; share(count, work) does the work.
template <typename T, typename Share>
const T* packed(const Kernel<T>& kernel, const memory::desc& desc, Share share) {
  thread_local repaint::Scratch kept;
  T* to = static_cast<T*>(kept.of_size(desc.get_size()));
  const Layout layout(desc);
  const Dim taps = kernel.height * kernel.width;
  share((kernel.count + layout.o - 1) / layout.o * taps, [=](Dim i) {
    const Dim tap = i % taps;
    kernel.pack(layout, i / taps, tap / kernel.width, tap % kernel.width, to);
  });
  return to;
}

// The kernel is read once, for all pictures.
template <typename T>
void convolve_slices(ffi::ThreadPool& pool, const Geometry& whole, Dim batch, const T* x,
                     const Kernel<T>& kernel, const T* bias, T* y) {
  const Dim slices = (whole.out.channels + kSlice - 1) / kSlice;
  const Dim shares = std::clamp<Dim>(2 * pool.num_threads() / slices, 1, batch);
  repaint::in_parallel(pool, slices * shares, [=, &whole](Dim i) {
    const OneThread guard;
    thread_local repaint::Scratch result;
    const Dim first = i / shares * kSlice, count = std::min(kSlice, whole.out.channels - first);
    const Geometry slice = whole.slice(count);
    Convolution& convolution = ::convolution(slice, slice.kernel(Tag::any));
    const T* weights = packed(kernel.slice(first, count), convolution.weights_desc(), alone);
    T* part = static_cast<T*>(result.of_size(slice.out.size() * sizeof(T)));
    for (Dim picture = i % shares; picture < batch; picture += shares) {
      convolution(x + picture * whole.in.size(), weights, bias + first, part);
      T* to = y + picture * whole.out.size() + first;
      for (Dim pixel = 0; pixel < whole.out.height * whole.out.width; ++pixel)
        std::copy_n(part + pixel * count, count, to + pixel * whole.out.channels);
    }
  });
}

template <typename T>
void convolve_bands(ffi::ThreadPool& pool, const Geometry& whole, Dim batch, const T* x,
                    const Kernel<T>& kernel, const T* bias, T* y) {
  const bool as_they_are = whole.type == memory::data_type::f32 && !kernel.turned;
  const Plan& cut = plan(whole, as_they_are);
  auto among_all = [&](Dim count, auto work) { repaint::in_parallel(pool, count, work); };
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

// x [B, H, W, in], kernel HWIO, bias [out] -> y; with the kernel turned, in and out change places.
ffi::Error forward(ffi::ThreadPool pool, ffi::AnyBuffer x, ffi::AnyBuffer kernel,
                   ffi::AnyBuffer bias, ffi::Result<ffi::AnyBuffer> y, int64_t stride,
                   int64_t before, int64_t after, bool turned) {
  const auto in = x.dimensions(), out = y->dimensions(), k = kernel.dimensions();
  const Geometry whole{type_of(x), {in[1], in[2], in[3]}, {out[1], out[2], out[3]}, k[0], k[1],
                       stride, before, after, before, after};
  auto run = [&]<typename T>(T) {
    const auto convolve = whole.has_large_kernel() ? convolve_slices<T> : convolve_bands<T>;
    convolve(pool, whole, in[0], static_cast<const T*>(x.untyped_data()),
                {static_cast<const T*>(kernel.untyped_data()), k[0], k[1], in[3], out[3], turned},
                static_cast<const T*>(bias.untyped_data()), static_cast<T*>(y->untyped_data()));
  };
  return told([&] { whole.type == memory::data_type::f32 ? run(float()) : run(uint16_t()); });
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
