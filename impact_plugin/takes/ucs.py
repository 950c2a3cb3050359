"""A Universal Category System CatID for a prompt, by its words.

Knows a small table of CatIDs (Universal Category System 8.x, universalcategorysystem.com) for what people ask sound
effects for most. A guess: whoever knows better gives the key `ucs`.
"""

from __future__ import annotations

import re

#: What a prompt gets that no rule knows: "designed sound, miscellaneous".
FALLBACK = "DSGNMisc"

# Words that must all occur (as beginnings of the prompt's words), and the CatID. The first rule that fits wins, so the
# particular stands before the general.
_RULES: tuple[tuple[str, str], ...] = (
    ("laser gun", "LASRGun"),
    ("laser shot", "LASRGun"),
    ("laser", "LASRBeam"),
    ("blaster", "LASRGun"),
    ("footstep", "FEETHmn"),
    ("hoof", "FEETHors"),
    ("hooves", "FEETHors"),
    ("steps", "FEETHmn"),
    ("glass shatter", "GLASBrk"),
    ("glass break", "GLASBrk"),
    ("glass smash", "GLASBrk"),
    ("bottle shatter", "GLASBrk"),
    ("bottle break", "GLASBrk"),
    ("shatter", "GLASBrk"),
    ("glass", "GLASImpt"),
    ("door metal", "DOORMetl"),
    ("door glass", "DOORGlas"),
    ("gate", "DOORGate"),
    ("door", "DOORWood"),
    ("shotgun", "GUNShotg"),
    ("machine gun", "GUNAuto"),
    ("rifle", "GUNRif"),
    ("pistol", "GUNPis"),
    ("cannon", "GUNCano"),
    ("gun", "GUNMisc"),
    ("ricochet", "BLLTRico"),
    ("bullet", "BLLTImpt"),
    ("arrow", "WEAPArro"),
    ("bow", "WEAPBow"),
    ("sword", "WEAPSwrd"),
    ("knife", "WEAPKnif"),
    ("axe", "WEAPAxe"),
    ("explo", "EXPLReal"),
    ("collapse", "DESTRClpse"),
    ("thunder", "THUN"),
    ("rain", "RAIN"),
    ("wind", "WINDGust"),
    ("splash", "WATRSplsh"),
    ("bubbl", "WATRBubl"),
    ("drip", "WATRDrip"),
    ("wave", "WATRWave"),
    ("water", "WATRFlow"),
    ("stream", "WATRFlow"),
    ("fire crackl", "FIRECrkl"),
    ("sizzl", "FIRESizz"),
    ("fire", "FIREBurn"),
    ("flame", "FIREBurn"),
    ("spell", "MAGSpel"),
    ("magic", "MAGSpel"),
    ("shimmer", "MAGShim"),
    ("dragon", "CREADrgn"),
    ("monster", "CREAMnstr"),
    ("creature", "CREAMnstr"),
    ("robot", "ROBTMisc"),
    ("spark", "ELECSprk"),
    ("zap", "ELECZap"),
    ("electric", "ELECMisc"),
    ("siren", "ALRMSirn"),
    ("alarm", "ALRMElec"),
    ("button", "UIClick"),
    ("click", "UIClick"),
    ("interface", "UIMisc"),
    ("notification", "UIAlert"),
    ("menu", "UIMisc"),
    ("beep", "UIBeep"),
    ("car", "VEHCar"),
    ("propeller", "AEROProp"),
    ("jet", "AEROJet"),
    ("dog", "ANMLDog"),
    ("cat", "ANMLCat"),
    ("horse", "ANMLHors"),
    ("wolf", "ANMLWdog"),
    ("frog", "ANMLAmph"),
    ("insect", "ANMLInsc"),
    ("bird", "BIRDSong"),
    ("crow", "BIRDCrow"),
    ("scream", "VOXScrm"),
    ("laugh", "VOXLaff"),
    ("applause", "CRWDApls"),
    ("crowd", "CRWDCheer"),
    ("drum", "MUSCPerc"),
    ("snare", "MUSCPerc"),
    ("cymbal", "MUSCPerc"),
    ("guitar", "MUSCPluck"),
    ("trumpet", "MUSCBrass"),
    ("piano", "MUSCKeyd"),
    ("coin", "OBJCoin"),
    ("keys", "OBJKey"),
    ("bell", "BELLMisc"),
    ("wood crack", "WOODBrk"),
    ("wood break", "WOODBrk"),
    ("wood", "WOODImpt"),
    ("metal scrap", "METLFric"),
    ("metal", "METLImpt"),
    ("rock", "ROCKImpt"),
    ("stone", "ROCKImpt"),
    ("ice", "ICEBrk"),
    ("paper", "PAPRHndl"),
    ("leaves", "VEGELeaf"),
    ("punch", "FGHTImpt"),
    ("whoosh", "WHSH"),
    ("swoosh", "SWSH"),
    ("swish", "SWSH"),
    ("riser", "DSGNRise"),
    ("drone", "DSGNDron"),
    ("rumble", "DSGNRmbl"),
    ("boom", "DSGNBoom"),
    ("engine", "MACHMisc"),
    ("machine", "MACHMisc"),
    ("motor", "MOTRElec"),
)


def guess_catid(prompt: str) -> str:
    """The CatID of the first rule whose words all occur in the prompt, else :data:`FALLBACK`."""
    words = re.findall(r"[a-z]+", prompt.lower())
    for needed, catid in _RULES:
        if all(any(_begins(word, stem) for word in words) for stem in needed.split()):
            return catid
    return FALLBACK


def _begins(word: str, stem: str) -> bool:
    """`doors` begins with `door`; but a short stem must not be the start of just any word (`car`, `carpet`)."""
    return word.startswith(stem) and (len(stem) > 4 or word.removeprefix(stem) in {"", "s", "es", "en", "y", "ly"})
