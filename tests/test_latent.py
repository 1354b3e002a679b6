"""The latent model: what its denoiser is bound to, in which batch, and which VAE it insists on."""

import json
import shutil

import pytest
import torch

from minidiff.checkpoint import MANIFEST, CheckpointError, load_weights, save_weights
from minidiff.encoders.vae import VAE
from minidiff.latent import LatentModel
from minidiff.model import load_model
from minidiff.process.flow import Flow, shift_for
from minidiff.process.guidance import cfg, norm_preserving
from minidiff.toytown import paint, scenes

WORDS = ["make the car blue", "remove the tree"]
T = torch.tensor([0.7, 0.2])


@pytest.fixture(scope="module")
def model(tiny_latent_weights):
    return LatentModel.load(tiny_latent_weights, "cpu")


def draw(seed, *shape):
    return torch.randn(shape or (2, 8, 8, 8), generator=torch.Generator().manual_seed(seed))


def forward(model, z_t, t, prompts, contexts=()):
    """The full forward of the transformer, conditions and all."""
    return model.dit(z_t, t, *model.encode(prompts), contexts)


def test_prepared_conditions_give_the_same_as_the_full_forward(model):
    z_t, contexts = draw(0), [draw(1), draw(2, 2, 8, 12, 4)]
    for some in ([], contexts[:1], contexts):
        denoise = model.denoiser(WORDS, contexts=some, size=(8, 8))
        for t in (0.4, T):                                      # prepared once, for any level
            assert torch.equal(denoise(z_t, t), forward(model, z_t, torch.as_tensor(t), WORDS, some))
    one, two = (forward(model, z_t, T, WORDS, some) for some in (contexts[:1], contexts))
    assert (one - two).abs().max() > 1e-3


def test_conditions_are_prepared_once(model, monkeypatch):
    asked, prepare = [], model.dit.prepare
    monkeypatch.setattr(model.dit, "prepare", lambda *given: asked.append(given) or prepare(*given))
    denoise = model.denoiser(WORDS, 3.0, [draw(1)])
    for t in (0.9, 0.5, 0.1):
        denoise(draw(0), t)
    assert len(asked) == 1


@pytest.mark.parametrize("guide", [cfg, norm_preserving])
def test_guidance_is_of_two_single_passes_that_both_see_the_pictures(model, guide):
    z_t, contexts = draw(0), [draw(1)]
    found = model.denoiser(WORDS, 3.0, contexts, guide=guide)(z_t, T)
    silent, told = (forward(model, z_t, T, prompts, contexts) for prompts in ([None, None], WORDS))
    assert (found - guide(silent, told, 3.0)).abs().max() < 1e-5
    assert (silent - told).abs().max() > 1e-3 and (found - told).abs().max() > 1e-3
    assert torch.equal(model.denoiser(WORDS, 1.0, contexts, guide=guide)(z_t, T), told)
    assert torch.equal(model.denoiser(tuple(WORDS), 3.0, contexts, guide=guide)(z_t, T), found)


def test_guidance_takes_one_batch_and_scale_one_half_of_it(model):
    for scale, branches in ((1, 1), (2, 2)):
        with model.counted() as calls:
            denoise = model.denoiser(WORDS, scale, [draw(1)])
            denoise(draw(0), 0.5)
        assert calls[0] == 2 * 2 * branches                     # two pictures, prepared and denoised


def test_guidance_ends_at_a_level(model):
    """Up to it, the network is asked once, and its answer is the one without guidance."""
    z_t, contexts = draw(0), [draw(1)]
    free, steered = (model.denoiser(WORDS, scale, contexts) for scale in (1.0, 3.0))
    denoise = model.denoiser(WORDS, 3.0, contexts, guided_above=0.5)
    for t, expected, asked in ((0.51, steered, 4), (0.5, free, 2), (0.2, free, 2)):
        for level in (t, torch.tensor(t), torch.tensor([t, t])):
            with model.counted() as calls:
                found = denoise(z_t, level)
            assert calls[0] == asked and (found - expected(z_t, level)).abs().max() < 1e-5
    mixed = torch.tensor([0.8, 0.3])
    found = denoise(z_t, mixed)
    assert (found - torch.stack([steered(z_t, mixed)[0], free(z_t, mixed)[1]])).abs().max() < 1e-5


def test_no_pictures_and_no_words_is_unconditional(model):
    z_t = draw(0)
    free = forward(model, z_t, T, [None, None])
    for nothing in (["", ""], [None, None], ["", None]):
        assert torch.equal(model.denoiser(nothing, 4.0)(z_t, T), free)
    assert (forward(model, z_t, T, ["", ""]) - free).abs().max() > 1e-4


def test_an_empty_instruction_is_not_the_same_as_none(model):
    z_t, contexts = draw(0), [draw(1)]
    nothing, silent = (model.denoiser(words, 1.0, contexts)(z_t, T) for words in (["", ""], [None, None]))
    assert torch.equal(nothing, forward(model, z_t, T, ["", ""], contexts))
    assert (nothing - silent).abs().max() > 1e-4


def test_sizes_without_and_with_pictures(model):
    assert model.denoiser(["a house"])(draw(0, 1, 8, 8, 8), 0.5).shape == (1, 8, 8, 8)   # 32 pixels
    wide = draw(1, 1, 8, 8, 12)
    assert model.denoiser(["a house"], contexts=[wide])(wide, 0.5).shape == wide.shape
    assert model.denoiser(["a house"], 1.0, [wide], (4, 4))(draw(0, 1, 8, 4, 4), 0.5).shape == (1, 8, 4, 4)
    with pytest.raises(ValueError, match=r"x_t is \(1, 8, 4, 4\): \(1, 8, 8, 12\) expected"):
        model.denoiser(["a house"], contexts=[wide])(draw(0, 1, 8, 4, 4), 0.5)
    with pytest.raises(ValueError, match="4 contexts came: at most 3 expected"):
        model.denoiser(["a house"], contexts=[wide] * 4)


def test_times_are_shifted_by_the_number_of_tokens(model):
    for height, width in ((16, 16), (64, 32)):
        tokens = height * width // 4
        assert model.times(7, draw(0, 1, 8, height, width)) == Flow().times(7, shift_for(tokens))


def test_latents_and_pictures_are_those_of_the_vae(model, tiny_latent_weights):
    vae, x0 = VAE.load(tiny_latent_weights.with_name("tiny-vae.safetensors")), paint(scenes(2, seed=3), 32)
    assert torch.equal(model.latents(x0), vae.latents(x0)) and model.latents(x0).shape == (2, 8, 8, 8)
    assert torch.equal(model.decode(draw(0)), vae.decode(draw(0)))


def test_weights_are_known_by_their_entry(model, tiny_latent_weights):
    loaded = load_model(tiny_latent_weights, "cpu")
    assert type(loaded) is LatentModel and loaded.kind == "latent denoiser"
    assert loaded.size == 32 and loaded.data == "town"
    assert not any(weight.requires_grad for weight in [*loaded.dit.parameters(), *loaded.vae.parameters()])
    z_t = draw(0)
    assert torch.equal(loaded.denoiser(WORDS)(z_t, T), model.denoiser(WORDS)(z_t, T))
    with pytest.raises(ValueError, match="unknown words: bleu .did you mean blue"):
        loaded.check_prompt("make the car bleu")


def test_another_vae_is_refused(tiny_latent_weights, tmp_path):
    shutil.copytree(tiny_latent_weights.parent, tmp_path / "weights")
    path = tmp_path / "weights" / tiny_latent_weights.name
    manifest = json.loads((path.parent / MANIFEST).read_text())
    config = manifest["tiny-context"]["config"]
    config["vae"] = str(path.with_name("tiny-vae.safetensors"))
    (path.parent / MANIFEST).write_text(json.dumps(manifest))
    LatentModel.load(path, "cpu")
    tensors, entry = load_weights(config["vae"])
    tensors["shift"] += 1
    save_weights("tiny-vae", tensors, entry, path.parent)
    with pytest.raises(CheckpointError, match="trained with another .*tiny-vae.safetensors than the one"):
        LatentModel.load(path, "cpu")
