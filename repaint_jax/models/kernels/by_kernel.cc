// The derivative of a convolution by its kernel, by oneDNN's products of matrices.

#include <array>
#include <map>

#include "onednn.h"

namespace ffi = xla::ffi;
using dnnl::memory;
using namespace repaint;

namespace {

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

XLA_FFI_DEFINE_HANDLER_SYMBOL(RepaintKernelGradient, by_kernel,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Ret<ffi::AnyBuffer>());
