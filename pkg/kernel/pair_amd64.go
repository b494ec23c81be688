package kernel

import "unsafe"

func pairDistancesFast(x, g, q, add, low []float32, near float32, rows, cols int) bool {
	switch active {
	case AVX512:
		pairDistancesAVX512(rows, cols, near, &g[0], &q[0], &add[0], &low[0], &x[0])
	case AVX2:
		pairDistancesAVX2(rows, cols, near, &g[0], &q[0], &add[0], &low[0], &x[0])
	default:
		return false
	}
	return true
}

func pairScoresFast(s, r []float32, kappa, h float32, rows, cols int) bool {
	switch active {
	case AVX512:
		pairScoresAVX512(rows, cols, kappa, h, &r[0], &s[0])
	case AVX2:
		pairScoresAVX2(rows, cols, kappa, h, &r[0], &s[0])
	default:
		return false
	}
	return true
}

func softmaxStepFast(x, top, sum, scale []float32, rows, cols int) bool {
	switch active {
	case AVX512:
		softmaxStepAVX512(rows, cols, &x[0], &top[0], &sum[0], &scale[0])
	case AVX2:
		softmaxStepAVX2(rows, cols, &x[0], &top[0], &sum[0], &scale[0])
	default:
		return false
	}
	return true
}

func pairGradFast(s, r, dw, lse, t, dp, colE, rowE []float32, kappa, h float32, rows, cols int) bool {
	rp, dpp, cp, ep := unsafe.SliceData(r), unsafe.SliceData(dp), unsafe.SliceData(colE), unsafe.SliceData(rowE)
	switch {
	case active == AVX512 && r != nil:
		pairGradAVX512(rows, cols, kappa, h, rp, &s[0], &dw[0], &lse[0], &t[0], dpp, cp, ep)
	case active == AVX512:
		softmaxGradAVX512(rows, cols, kappa, &s[0], &dw[0], &lse[0], &t[0])
	case active == AVX2 && r != nil:
		pairGradAVX2(rows, cols, kappa, h, rp, &s[0], &dw[0], &lse[0], &t[0], dpp, cp, ep)
	case active == AVX2:
		softmaxGradAVX2(rows, cols, kappa, &s[0], &dw[0], &lse[0], &t[0])
	default:
		return false
	}
	return true
}
