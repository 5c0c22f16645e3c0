// Group normalisation with a gain and an offset a channel, and SiLU, in one pass over NHWC pictures.
//
// A picture is cut into chunks of pixels by its shape alone, so that its numbers do not depend on its
// batch; everything is float32 inside.

#include <immintrin.h>

#include <cmath>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "parallel.h"

namespace ffi = xla::ffi;
using repaint::Dim;

namespace {

constexpr Dim kLanes = 16;
constexpr Dim kBlock = 4 * kLanes;      // channels whose sums fill registers
constexpr Dim kChunk = 32 * 1024;       // values, which a core's cache holds twice over

using Lanes = __m512;

Lanes load(const float* from) { return _mm512_loadu_ps(from); }
Lanes load(const uint16_t* from) {
  const __m256i halves = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
}
void store(float* to, Lanes x) { _mm512_storeu_ps(to, x); }
void store(uint16_t* to, Lanes x) {  // to the nearest, to even between two
  const __m512i bits = _mm512_castps_si512(x);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to),
                      _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16)));
}

// e^x to 1e-7: 2^n e^r with |r| <= log(2) / 2, whose series ends at r^6.
Lanes exponential(Lanes x) {
  x = _mm512_min_ps(_mm512_max_ps(x, _mm512_set1_ps(-126.0f)), _mm512_set1_ps(88.0f));
  const Lanes n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), 0);
  Lanes r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x);
  r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), r);
  Lanes sum = _mm512_set1_ps(1.0f / 720);
  for (float factor : {1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f})
    sum = _mm512_fmadd_ps(sum, r, _mm512_set1_ps(factor));
  return _mm512_scalef_ps(sum, n);
}

Lanes sigmoid(Lanes x) {
  const Lanes one = _mm512_set1_ps(1.0f);
  return _mm512_div_ps(one, _mm512_add_ps(one, exponential(_mm512_sub_ps(_mm512_setzero_ps(), x))));
}

struct Shape {
  Dim batch, pixels, channels, groups;
  Dim chunk_pixels() const { return std::max<Dim>(1, kChunk / channels); }
  Dim chunks() const { return (pixels + chunk_pixels() - 1) / chunk_pixels(); }
  Dim size() const { return pixels * channels; }
  // Of the chunk's pixels.
  std::pair<Dim, Dim> range(Dim chunk) const {
    return {chunk * chunk_pixels(), std::min(pixels, (chunk + 1) * chunk_pixels())};
  }
};

// Calls visit(channel, lanes) for channels in blocks: sums over pixels stay in registers.
template <int kSums, typename Sums>
void sum_pixels(const Shape& s, Dim first, Dim end, float* const (&to)[kSums], Sums terms) {
  for (Dim c0 = 0; c0 < s.channels; c0 += kBlock) {
    const Dim vectors = std::min(kBlock, s.channels - c0) / kLanes;
    Lanes sums[4][kSums];
    for (auto& row : sums)
      for (Lanes& sum : row) sum = _mm512_setzero_ps();
    auto over = [&](auto count) {
      for (Dim p = first; p < end; ++p)
        for (int v = 0; v < count; ++v) terms(p * s.channels + c0 + v * kLanes, c0 + v * kLanes, sums[v]);
    };
    switch (vectors) {
      case 4: over(std::integral_constant<int, 4>()); break;
      case 3: over(std::integral_constant<int, 3>()); break;
      case 2: over(std::integral_constant<int, 2>()); break;
      default: over(std::integral_constant<int, 1>());
    }
    for (Dim v = 0; v < vectors; ++v)
      for (int k = 0; k < kSums; ++k) store(to[k] + c0 + v * kLanes, sums[v][k]);
  }
}

// Mean and summed squared deviation of each channel over the pixels of a chunk.
template <typename T>
void moments(const Shape& s, const T* x, Dim chunk, float* mean, float* squares) {
  const auto [first, end] = s.range(chunk);
  sum_pixels<1>(s, first, end, {mean}, [&](Dim at, Dim, Lanes(&sum)[1]) {
    sum[0] = _mm512_add_ps(sum[0], load(x + at));
  });
  for (Dim c = 0; c < s.channels; ++c) mean[c] /= static_cast<float>(end - first);
  sum_pixels<1>(s, first, end, {squares}, [&](Dim at, Dim c, Lanes(&sum)[1]) {
    const Lanes deviation = _mm512_sub_ps(load(x + at), load(mean + c));
    sum[0] = _mm512_fmadd_ps(deviation, deviation, sum[0]);
  });
}

// Mean and 1 / deviation of each group of a picture, from the moments of its chunks.
void statistics(const Shape& s, float eps, const float* means, const float* squares, float* mean,
                float* inverse) {
  const Dim width = s.channels / s.groups;
  for (Dim group = 0; group < s.groups; ++group) {
    double total = 0, square = 0;
    for (Dim chunk = 0; chunk < s.chunks(); ++chunk) {
      const auto [first, end] = s.range(chunk);
      for (Dim c = group * width; c < (group + 1) * width; ++c)
        total += double(end - first) * means[chunk * s.channels + c];
    }
    const double count = double(s.pixels) * width, middle = total / count;
    for (Dim chunk = 0; chunk < s.chunks(); ++chunk) {
      const auto [first, end] = s.range(chunk);
      for (Dim c = group * width; c < (group + 1) * width; ++c) {
        const double off = means[chunk * s.channels + c] - middle;
        square += squares[chunk * s.channels + c] + double(end - first) * off * off;
      }
    }
    mean[group] = static_cast<float>(middle);
    inverse[group] = static_cast<float>(1 / std::sqrt(square / count + eps));
  }
}

// x a + b for each channel of a picture.
struct Affine {
  std::vector<float> a, b;
  Affine(const Shape& s, const float* mean, const float* inverse, const float* gain,
         const float* offset)
      : a(s.channels), b(s.channels) {
    const Dim width = s.channels / s.groups;
    for (Dim c = 0; c < s.channels; ++c) {
      a[c] = inverse[c / width] * gain[c];
      b[c] = offset[c] - mean[c / width] * a[c];
    }
  }
};

// What all pictures of a batch need to be normalised, [batch][groups] and [batch].
struct Statistics {
  std::vector<float> mean, inverse;
  std::vector<Affine> affine;

  template <typename T>
  Statistics(ffi::ThreadPool& pool, const Shape& s, float eps, const T* x, const float* gain,
             const float* offset)
      : mean(s.batch * s.groups), inverse(s.batch * s.groups) {
    const Dim chunks = s.chunks();
    std::vector<float> means(s.batch * chunks * s.channels), squares(means.size());
    repaint::in_parallel(pool, s.batch * chunks, [&s, x, chunks, m = means.data(), q = squares.data()](Dim i) {
      moments(s, x + i / chunks * s.size(), i % chunks, m + i * s.channels, q + i * s.channels);
    });
    for (Dim picture = 0; picture < s.batch; ++picture) {
      const Dim from = picture * chunks * s.channels, group = picture * s.groups;
      statistics(s, eps, means.data() + from, squares.data() + from, &mean[group], &inverse[group]);
      affine.emplace_back(s, &mean[group], &inverse[group], gain + picture * s.channels,
                          offset + picture * s.channels);
    }
  }
};

template <typename T, bool kSilu>
void normalize(ffi::ThreadPool& pool, const Shape& s, float eps, const T* x, const float* gain,
               const float* offset, T* y) {
  const Statistics stats(pool, s, eps, x, gain, offset);
  const Dim chunks = s.chunks();
  repaint::in_parallel(pool, s.batch * chunks, [&, x, y, chunks](Dim i) {
    const float *a = stats.affine[i / chunks].a.data(), *b = stats.affine[i / chunks].b.data();
    const auto [first, end] = s.range(i % chunks);
    const Dim from = i / chunks * s.size();
    for (Dim p = first; p < end; ++p)
      for (Dim c = 0; c < s.channels; c += kLanes) {
        const Dim at = from + p * s.channels + c;
        Lanes value = _mm512_fmadd_ps(load(x + at), load(a + c), load(b + c));
        if constexpr (kSilu) value = _mm512_mul_ps(value, sigmoid(value));
        store(y + at, value);
      }
  });
}

// The derivatives by x, and by gain and offset, f32[B, C], which are sums over the pixels.
template <typename T, bool kSilu>
void gradient(ffi::ThreadPool& pool, const Shape& s, float eps, const T* x, const float* gain,
              const float* offset, const T* dy, T* dx, float* dgain, float* doffset) {
  const Statistics stats(pool, s, eps, x, gain, offset);
  const Dim chunks = s.chunks(), width = s.channels / s.groups;
  auto before_silu = [&stats, dy, x](Dim at, Dim picture, Dim c) {
    Lanes d = load(dy + at);
    if constexpr (kSilu) {
      const Affine& affine = stats.affine[picture];
      const Lanes u = _mm512_fmadd_ps(load(x + at), load(&affine.a[c]), load(&affine.b[c]));
      const Lanes one = _mm512_set1_ps(1.0f), gate = sigmoid(u);
      // gate + u gate (1 - gate)
      d = _mm512_mul_ps(d, _mm512_fmadd_ps(_mm512_mul_ps(u, gate), _mm512_sub_ps(one, gate), gate));
    }
    return d;
  };
  std::vector<float> mean_c(s.batch * s.channels), sums(s.batch * chunks * s.channels), products(sums.size());
  for (Dim i = 0; i < s.batch * s.channels; ++i) mean_c[i] = stats.mean[i / width];
  repaint::in_parallel(pool, s.batch * chunks, [&](Dim i) {
    const Dim picture = i / chunks, from = picture * s.size();
    const auto [first, end] = s.range(i % chunks);
    sum_pixels<2>(s, first, end, {&sums[i * s.channels], &products[i * s.channels]},
                  [&](Dim at, Dim c, Lanes(&sum)[2]) {
                    const Lanes d = before_silu(from + at, picture, c);
                    const Lanes off = _mm512_sub_ps(load(x + from + at), load(&mean_c[picture * s.channels + c]));
                    sum[0] = _mm512_add_ps(sum[0], d);
                    sum[1] = _mm512_fmadd_ps(d, off, sum[1]);
                  });
  });
  // dx = d a + x p + q
  std::vector<float> p(s.batch * s.channels), q(p.size());
  for (Dim picture = 0; picture < s.batch; ++picture)
    for (Dim group = 0; group < s.groups; ++group) {
      const float inverse = stats.inverse[picture * s.groups + group];
      const float mean = stats.mean[picture * s.groups + group];
      double m1 = 0, m2 = 0;
      const Dim c0 = picture * s.channels + group * width;
      for (Dim c = c0; c < c0 + width; ++c) {
        double sum = 0, product = 0;
        for (Dim chunk = 0; chunk < chunks; ++chunk) {
          const Dim at = (picture * chunks + chunk) * s.channels + c - picture * s.channels;
          sum += sums[at];
          product += products[at];
        }
        dgain[c] = static_cast<float>(product * inverse);
        doffset[c] = static_cast<float>(sum);
        m1 += gain[c] * sum;
        m2 += gain[c] * product * inverse;
      }
      const double count = double(s.pixels) * width;
      const float slope = static_cast<float>(-inverse * inverse * m2 / count);
      for (Dim c = c0; c < c0 + width; ++c) {
        p[c] = slope;
        q[c] = static_cast<float>(-inverse * m1 / count) - slope * mean;
      }
    }
  repaint::in_parallel(pool, s.batch * chunks, [&](Dim i) {
    const Dim picture = i / chunks, from = picture * s.size(), c0 = picture * s.channels;
    const auto [first, end] = s.range(i % chunks);
    for (Dim pixel = first; pixel < end; ++pixel)
      for (Dim c = 0; c < s.channels; c += kLanes) {
        const Dim at = from + pixel * s.channels + c;
        const Lanes rest = _mm512_fmadd_ps(load(x + at), load(&p[c0 + c]), load(&q[c0 + c]));
        store(dx + at, _mm512_fmadd_ps(before_silu(at, picture, c), load(&stats.affine[picture].a[c]), rest));
      }
  });
}

Shape shape_of(const ffi::AnyBuffer& x, int64_t groups) {
  const auto d = x.dimensions();
  return {d[0], d[1] * d[2], d[3], groups};
}

// Calls work<T, silu>() for the type of x.
template <typename Work>
ffi::Error dispatched(const ffi::AnyBuffer& x, bool silu, Work work) {
  auto of_type = [&]<typename T>(T) {
    silu ? work.template operator()<T, true>() : work.template operator()<T, false>();
  };
  x.element_type() == ffi::BF16 ? of_type(uint16_t()) : of_type(float());
  return ffi::Error::Success();
}

template <typename T>
T* data(const ffi::AnyBuffer& buffer) {
  return static_cast<T*>(buffer.untyped_data());
}

using Floats = ffi::Buffer<ffi::F32>;

ffi::Error normalize_pictures(ffi::ThreadPool pool, ffi::AnyBuffer x, Floats gain, Floats offset,
                              ffi::Result<ffi::AnyBuffer> y, int64_t groups, float eps, bool silu) {
  return dispatched(x, silu, [&]<typename T, bool kSilu>() {
    normalize<T, kSilu>(pool, shape_of(x, groups), eps, data<T>(x), gain.typed_data(),
                        offset.typed_data(), data<T>(*y));
  });
}

ffi::Error gradient_of_pictures(ffi::ThreadPool pool, ffi::AnyBuffer x, Floats gain, Floats offset,
                                ffi::AnyBuffer dy, ffi::Result<ffi::AnyBuffer> dx,
                                ffi::Result<Floats> dgain, ffi::Result<Floats> doffset,
                                int64_t groups, float eps, bool silu) {
  return dispatched(x, silu, [&]<typename T, bool kSilu>() {
    gradient<T, kSilu>(pool, shape_of(x, groups), eps, data<T>(x), gain.typed_data(),
                       offset.typed_data(), data<T>(dy), data<T>(*dx), dgain->typed_data(),
                       doffset->typed_data());
  });
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(RepaintNormalization, normalize_pictures,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<Floats>()
                                  .Arg<Floats>()
                                  .Ret<ffi::AnyBuffer>()
                                  .Attr<int64_t>("groups")
                                  .Attr<float>("eps")
                                  .Attr<bool>("silu"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(RepaintNormalizationGradient, gradient_of_pictures,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<Floats>()
                                  .Arg<Floats>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Ret<ffi::AnyBuffer>()
                                  .Ret<Floats>()
                                  .Ret<Floats>()
                                  .Attr<int64_t>("groups")
                                  .Attr<float>("eps")
                                  .Attr<bool>("silu"));
