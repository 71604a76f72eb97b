"""Camera or frame in, faces out: landmarks, mouth opening, blendshapes."""
