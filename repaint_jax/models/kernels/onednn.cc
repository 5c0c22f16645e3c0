// Convolution of NHWC pictures by oneDNN, on XLA's own threads.
//
// A picture is cut into bands of rows, each of which oneDNN convolves on one thread. The cut depends
// on the shape of a picture alone, so that a picture's numbers do not depend on its batch.

#include <algorithm>
#include <atomic>
#include <exception>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "dnnl.hpp"
#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;
using dnnl::memory;
using Dim = memory::dim;
using Floats = ffi::Buffer<ffi::F32>;

// Of the OpenMP that oneDNN brings; the compiler's own may be another.
extern "C" int omp_get_max_threads();
extern "C" void omp_set_num_threads(int);

namespace {

constexpr Dim kBandFlops = 30'000'000;  // about 0.25 ms

// oneDNN's threads would compete with XLA's, among which the bands are shared out.
class OneThread {
 public:
  OneThread() { omp_set_num_threads(1); }
  ~OneThread() { omp_set_num_threads(before_); }

 private:
  const int before_ = omp_get_max_threads();
};

// work(0), ..., work(count - 1) on this thread and on those of the pool that come to help.
template <typename Work>
void in_parallel(ffi::ThreadPool& pool, Dim count, Work work) {
  struct Progress {
    std::atomic<Dim> next = 0, done = 0;
    std::mutex lock;
    std::exception_ptr error;
  };
  auto progress = std::make_shared<Progress>();
  // Who comes after the end finds nothing left and touches nothing but the progress.
  auto help = [progress, count, work] {
    for (Dim i; (i = progress->next++) < count; ++progress->done) {
      try {
        work(i);
      } catch (...) {
        std::lock_guard<std::mutex> guard(progress->lock);
        progress->error = std::current_exception();
      }
    }
  };
  for (Dim i = 1; i < std::min<Dim>(count, pool.num_threads()); ++i) pool.Schedule([help] { help(); });
  help();
  while (progress->done < count) std::this_thread::yield();
  if (progress->error) std::rethrow_exception(progress->error);
}

struct Picture {
  Dim height, width, channels;
  auto operator<=>(const Picture&) const = default;
  Dim row() const { return width * channels; }
  Dim size() const { return height * row(); }
  memory::desc desc() const {
    return {{1, channels, height, width}, memory::data_type::f32, memory::format_tag::nhwc};
  }
};

struct Geometry {
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
};

class Convolution {
 public:
  explicit Convolution(const Geometry& g) : Convolution(primitive_desc(g)) {}

  void operator()(const float* x, const float* kernel, const float* bias, float* y) {
    src_.set_data_handle(const_cast<float*>(x));
    weights_.set_data_handle(const_cast<float*>(kernel));
    bias_.set_data_handle(const_cast<float*>(bias));
    dst_.set_data_handle(y);
    dnnl::stream stream(engine());
    primitive_.execute(stream, {{DNNL_ARG_SRC, src_},
                                {DNNL_ARG_WEIGHTS, weights_},
                                {DNNL_ARG_BIAS, bias_},
                                {DNNL_ARG_DST, dst_},
                                {DNNL_ARG_SCRATCHPAD, scratchpad_}});
    stream.wait();
  }

 private:
  using Desc = dnnl::convolution_forward::primitive_desc;

  explicit Convolution(const Desc& d)
      : primitive_(d),
        src_(d.src_desc(), engine(), nullptr),
        weights_(d.weights_desc(), engine(), nullptr),
        bias_(d.bias_desc(), engine(), nullptr),
        dst_(d.dst_desc(), engine(), nullptr),
        scratchpad_(d.scratchpad_desc(), engine()) {}

  static const dnnl::engine& engine() {
    static const dnnl::engine cpu(dnnl::engine::kind::cpu, 0);
    return cpu;
  }

  static Desc primitive_desc(const Geometry& g) {
    using Tag = memory::format_tag;
    constexpr auto f32 = memory::data_type::f32;
    const Dim in = g.in.channels, out = g.out.channels;
    dnnl::primitive_attr attributes;
    attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    return Desc(engine(), dnnl::prop_kind::forward_inference,
                dnnl::algorithm::convolution_direct, g.in.desc(),
                {{out, in, g.kernel_height, g.kernel_width}, f32, Tag::hwio},
                {{out}, f32, Tag::x}, g.out.desc(), {g.stride, g.stride}, {g.top, g.left},
                {g.bottom, g.right}, attributes);
  }

  dnnl::convolution_forward primitive_;
  memory src_, weights_, bias_, dst_, scratchpad_;
};

// Each thread has its own, for a primitive works on one picture at a time.
Convolution& convolution(const Geometry& geometry) {
  thread_local std::map<Geometry, Convolution> made;
  auto found = made.find(geometry);
  return (found != made.end() ? found : made.try_emplace(geometry, geometry).first)->second;
}

ffi::Error convolve(ffi::ThreadPool pool, Floats x, Floats kernel, Floats bias,
                    ffi::Result<Floats> y, int64_t stride, int64_t before, int64_t after) {
  const auto in = x.dimensions(), out = y->dimensions(), k = kernel.dimensions();
  const Geometry whole{{in[1], in[2], in[3]}, {out[1], out[2], out[3]}, k[0], k[1], stride,
                       before, after, before, after};
  const Dim row_flops = 2 * k[0] * k[1] * k[2] * whole.out.row();
  const Dim rows = std::clamp<Dim>(kBandFlops / row_flops, 1, whole.out.height);
  const Dim bands = (whole.out.height + rows - 1) / rows;
  const float *from = x.typed_data(), *weights = kernel.typed_data(), *b = bias.typed_data();
  float* to = y->typed_data();
  try {
    in_parallel(pool, in[0] * bands, [=](Dim i) {
      const OneThread guard;
      const Dim picture = i / bands, first = i % bands * rows;
      const auto [band, start] = whole.band(first, std::min(rows, whole.out.height - first));
      convolution(band)(from + picture * whole.in.size() + start * whole.in.row(), weights, b,
                        to + picture * whole.out.size() + first * whole.out.row());
    });
  } catch (const std::exception& error) {
    return ffi::Error::Internal(std::string("oneDNN: ") + error.what());
  }
  return ffi::Error::Success();
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(RepaintConvolution, convolve,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<Floats>()
                                  .Arg<Floats>()
                                  .Arg<Floats>()
                                  .Ret<Floats>()
                                  .Attr<int64_t>("stride")
                                  .Attr<int64_t>("before")
                                  .Attr<int64_t>("after"));
